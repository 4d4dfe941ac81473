"""Import of prompts: every row of a source file becomes a task or a named outcome.

A prompt is identified by its messages, so equal prompts of any number of rows, files and spellings (a plain string, a
conversation of one user message) are one prompt. A task is a prompt with what a build needs to know about it: the gold
answer, source, split and metadata. It is identified by all of these: a corrected answer is a new task, and a row that
says the same as an earlier one is a `duplicate`.

Answers are kept as text. A number is written as its shortest JSON: 42 and 42.0 are `42`, 0.50 is `0.5`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import polars as pl
import pyarrow as pa

from prefkit.errors import RecipeError, SourceError, suggestion
from prefkit.hashing import row_hashes
from prefkit.identity import id_words, row_ids
from prefkit.records import PROMPTS, TASKS, FactTable
from prefkit.sampling.protocol import Message
from prefkit.sources.conversations import Refusal, conversation, plain_prompt, prompt_id
from prefkit.sources.fields import absent_field, metadata_columns, metadata_field, text_field
from prefkit.sources.rows import OUTCOME_SCHEMA, SourceRows, cells

FIELDS = ("prompt", "answer", "split", "metadata")
_STAMP = ("batch_id", "row_hash")


class ImportOutcome(StrEnum):
    """What became of a row of a source file."""

    IMPORTED = "imported"
    """A new task."""
    DUPLICATE = "duplicate"
    """The same task as an earlier row."""
    MISSING_PROMPT = "missing_prompt"
    """The prompt is null, or its cell of a CSV file is empty."""
    EMPTY_PROMPT = "empty_prompt"
    """The prompt has nothing but white space."""
    UNSUPPORTED_CONTENT = "unsupported_content"
    """The prompt is neither text nor a conversation in text: images, tools, unknown roles."""
    UNSUPPORTED_ANSWER = "unsupported_answer"
    """The answer is neither text nor a number."""
    MALFORMED = "malformed"
    """The row, its split or its metadata cannot be read."""


@dataclass(frozen=True, slots=True)
class PromptImport:
    """Prompts and tasks in the columns and types of `prefkit.records`, not yet stamped by the store."""

    source: str
    prompts: pa.Table
    """One row per distinct prompt, in order of first appearance."""
    tasks: pa.Table
    """One row per distinct task, in order of first appearance."""
    outcomes: pl.DataFrame
    """`row`, `outcome` and `detail`: one row per row of the file, in its order."""

    def counts(self) -> dict[str, int]:
        """Rows by outcome, for the outcomes that occur; the sum is the number of rows in the file."""
        counted = self.outcomes.group_by("outcome").len().sort("outcome")
        return dict(counted.iter_rows())


def prompt_tasks(rows: SourceRows, mapping: Mapping[str, str], source: str) -> PromptImport:
    """The tasks of a source file; `mapping` names its columns where they differ from ours (see `FIELDS`).

    `metadata` may name several columns, separated by commas. Raises SourceError when a column is missing or no row
    can be used, and RecipeError when the mapping has an unknown key.
    """
    columns = _columns(rows, mapping)
    prompts, row_prompts = _prompts(cells(rows, columns["prompt"]))
    fields = _fields(rows, columns)
    tasks = pl.DataFrame(
        {
            "row": rows.numbers,
            "prompt_id": row_prompts["prompt_id"],
            "source": pl.repeat(source, len(rows.frame), dtype=pl.String, eager=True),
            **{name: field["text"] for name, field in fields.items()},
            **_first_refusal([row_prompts, *fields.values()]).to_dict(),
        }
    )
    kept = _identified(tasks.filter(pl.col("outcome").is_null()))
    refused = tasks.filter(pl.col("outcome").is_not_null())
    outcomes = pl.concat([f.select(OUTCOME_SCHEMA.keys()) for f in (kept, refused, rows.malformed)]).sort("row")
    new = kept.filter(pl.col("outcome") == ImportOutcome.IMPORTED)
    if new.is_empty():
        raise SourceError(_nothing_imported(rows.name, outcomes))
    used = prompts.filter(pl.col("id").is_in(new["prompt_id"].implode()))
    return PromptImport(source, _as_facts(used, PROMPTS), _as_facts(new, TASKS), outcomes)


def _columns(rows: SourceRows, mapping: Mapping[str, str]) -> dict[str, str]:
    """Our field to the file's column, for the fields the file has."""
    known = rows.frame.columns
    for field in mapping:
        if field not in FIELDS:
            near = suggestion(field, list(FIELDS))
            raise RecipeError(f"the mapping names {field!r}, expected one of {', '.join(FIELDS)}{near}")
    named = [c for f, c in mapping.items() if f != "metadata"] + metadata_columns(mapping.get("metadata", ""), known)
    for column in named if known else ():
        if column not in known:
            raise SourceError(f"column {column!r} is not in {rows.name}{_listed(suggestion(column, known), known)}")
    if not known:
        raise SourceError(_nothing_imported(rows.name, rows.malformed))
    if "prompt" not in mapping and "prompt" not in known:
        raise SourceError(
            f"{rows.name} has no column 'prompt', got {_first_names(known)}: say which one it is, as in "
            f"`--map prompt={known[0]}`"
        )
    return {field: mapping.get(field, field) for field in FIELDS if field in mapping or field in known}


def _listed(near: str, known: list[str]) -> str:
    return near if "did you mean" in near else f", got {_first_names(known)}"


def _first_names(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _prompts(prompt_cells: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The distinct prompts (`id`, `messages`), and for every row `prompt_id` or `outcome` and `detail`."""
    distinct = prompt_cells.unique(maintain_order=True)
    read = [_prompt(kind, text) for kind, text in distinct.iter_rows()]
    distinct = distinct.with_columns(
        pl.Series("prompt_id", [prompt_id(r) if isinstance(r, list) else None for r in read], pl.Binary),
        pl.Series("outcome", [r.outcome if isinstance(r, Refusal) else None for r in read], pl.String),
        pl.Series("detail", [r.detail if isinstance(r, Refusal) else None for r in read], pl.String),
    )
    messages = pl.from_arrow(
        pa.array([r if isinstance(r, list) else None for r in read], PROMPTS.schema.field("messages").type)
    )
    prompts = pl.DataFrame({"id": distinct["prompt_id"], "messages": messages})
    by_row = prompt_cells.join(distinct, on=["kind", "text"], how="left", nulls_equal=True, maintain_order="left")
    return prompts.drop_nulls("id").unique("id", maintain_order=True, keep="first"), by_row


def _prompt(kind: str | None, text: str) -> list[Message] | Refusal:
    match kind:
        case None:
            return Refusal(ImportOutcome.MISSING_PROMPT, None)
        case "string":
            return plain_prompt(text) if text.strip() else Refusal(ImportOutcome.EMPTY_PROMPT, None)
        case "list":
            return conversation(text)
        case "unreadable":
            return Refusal(ImportOutcome.MALFORMED, f"prompt: {text}")
        case _:
            return Refusal(ImportOutcome.UNSUPPORTED_CONTENT, f"the prompt is of kind {kind}, expected string or list")


def _fields(rows: SourceRows, columns: Mapping[str, str]) -> dict[str, pl.DataFrame]:
    fields = {field: absent_field(len(rows.frame)) for field in FIELDS if field != "prompt"}
    if "answer" in columns:
        fields["answer"] = text_field(rows, columns["answer"], "answer", ImportOutcome.UNSUPPORTED_ANSWER)
    if "split" in columns:
        fields["split"] = text_field(rows, columns["split"], "split", ImportOutcome.MALFORMED)
    if "metadata" in columns:
        fields["metadata"] = metadata_field(rows, metadata_columns(columns["metadata"], rows.frame.columns))
    return fields


def _first_refusal(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """`outcome` and `detail` of the first frame that has an outcome for the row."""
    verdicts = pl.DataFrame({str(i): frame.select("outcome", "detail").to_struct() for i, frame in enumerate(frames)})
    refusals = [pl.when(pl.col(c).struct.field("outcome").is_not_null()).then(pl.col(c)) for c in verdicts.columns]
    return verdicts.select(pl.coalesce(refusals).alias("verdict")).unnest("verdict")


def _identified(tasks: pl.DataFrame) -> pl.DataFrame:
    """The tasks with their `id`, and `imported` or `duplicate` as their outcome."""
    said = tasks.select("answer", "source", "split", "metadata").to_arrow(compat_level=pl.CompatLevel.oldest())
    strings = said.cast(pa.schema([(name, pa.string()) for name in said.column_names]))
    ids = row_ids(id_words(tasks["prompt_id"].to_arrow()), row_hashes(strings, strings.column_names))
    first = pl.col("row").first().over("id")
    again = pl.col("row") != first
    return tasks.with_columns(id=pl.Series(ids, dtype=pl.Binary)).with_columns(
        outcome=pl.when(again)
        .then(pl.lit(ImportOutcome.DUPLICATE.value))
        .otherwise(pl.lit(ImportOutcome.IMPORTED.value)),
        detail=pl.when(again).then(pl.format("same as row {}", first)),
    )


def _as_facts(frame: pl.DataFrame, table: FactTable) -> pa.Table:
    fields = [field for field in table.schema if field.name not in _STAMP]
    return frame.select(field.name for field in fields).to_arrow().cast(pa.schema(fields))


def _nothing_imported(name: str, outcomes: pl.DataFrame) -> str:
    found = ", ".join(
        f"{count} {outcome}" for outcome, count in outcomes.group_by("outcome").len().sort("outcome").iter_rows()
    )
    return (
        f"{name} is an empty dataset: no row can be imported ({found or 'it has none'}); check the file and the mapping"
    )
