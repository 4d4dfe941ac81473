"""From the rows of a file to what they hold, by a mapping of columns.

Every row makes one record of each kind for each thing that the mapping names: a prompt, the completions by slot, a
score per score column, a comparison. A record either stands in a frame of `Shaped` or is refused with an outcome.
Nothing is looked up: whether a key names anything is for `linking` to say.
"""

from collections.abc import Collection, Mapping, Sequence

import polars as pl

from prefkit.sources.columns import (
    column_cells,
    column_key,
    column_name,
    column_text,
    first_refusal,
    missing_field,
    prompt_cells,
    refused_where,
    require_column,
    require_readable,
    several,
)
from prefkit.sources.config import ComparisonFields, CompletionFields, PromptFields, ScoreFields, TableConfig
from prefkit.sources.fields import metadata_field
from prefkit.sources.outcomes import ImportOutcome
from prefkit.sources.references import REFERENCE_SCHEMA, references
from prefkit.sources.rows import SourceRows
from prefkit.sources.said import order_of, said_of
from prefkit.sources.shaped import COMPARISONS, COMPLETIONS, PROMPTS, REFUSED, SCORES, Shaped
from prefkit.sources.values import preferences, rating_cells, scores

_SCHEMAS = {"prompts": PROMPTS, "completions": COMPLETIONS, "scores": SCORES, "comparisons": COMPARISONS}


def shaped(rows: SourceRows, table: TableConfig) -> Shaped:
    """What the rows hold, by the table's mapping.

    For each kind of record, those in the frame and those refused are together one per row and thing named. A row that
    the reader could not read is refused once. Raises SourceError for a column the file does not have.
    """
    prompt = table.prompt
    if prompt is None:
        raise ValueError(f"{table.path} has no mapping, expected one: read it with its adapter")
    require_readable(rows)
    keys = _prompt_keys(rows, prompt)
    made = {
        "prompts": [] if prompt.text is None else [_prompts(rows, prompt, keys)],
        "completions": [_completions(rows, slot, fields, keys) for slot, fields in table.completions.items()],
        "scores": [part for fields in table.scores for part in _scores(rows, fields, keys, table.completions)],
        "comparisons": [_comparisons(rows, fields, keys, table.completions) for fields in table.comparisons],
    }
    kept = {what: _kept(parts, _SCHEMAS[what]) for what, parts in made.items()}
    refused = [_refused(what, part) for what, parts in made.items() for part in parts]
    unread = rows.malformed.with_columns(what=pl.lit(_main_kind(table))).select(REFUSED.keys())
    return Shaped(
        name=rows.name,
        keyed=prompt.key is not None,
        refused=pl.concat([*refused, unread]).sort("row", maintain_order=True),
        **kept,
    )


def _kept(parts: Sequence[pl.DataFrame], schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    if not parts:
        return pl.DataFrame(schema=schema)
    kept = pl.concat([part.filter(pl.col("outcome").is_null()).select(schema.keys()) for part in parts])
    return kept if len(parts) == 1 else kept.sort("row", maintain_order=True)


def _refused(what: str, part: pl.DataFrame) -> pl.DataFrame:
    return part.filter(pl.col("outcome").is_not_null()).select("row", pl.lit(what).alias("what"), "outcome", "detail")


def _main_kind(table: TableConfig) -> str:
    if table.prompt is not None and table.prompt.text is not None:
        return "prompts"
    return "comparisons" if table.comparisons else "scores" if table.scores else "completions"


def _prompt_keys(rows: SourceRows, prompt: PromptFields) -> pl.DataFrame:
    """`text`, `outcome` and `detail` of the key that the records of a row name their prompt by."""
    if prompt.key is None:
        return missing_field(rows).with_columns(text=rows.numbers.cast(pl.String))
    found = column_key(rows, prompt.key, "prompt's key")
    missing = pl.col("text").is_null()
    return refused_where(found, missing, "the prompt's key is missing", ImportOutcome.UNKNOWN_PROMPT)


def _prompts(rows: SourceRows, prompt: PromptFields, keys: pl.DataFrame) -> pl.DataFrame:
    assert prompt.text is not None
    # A prompt in words is not unknown, but without its key no other row could name it
    unknown, malformed = ImportOutcome.UNKNOWN_PROMPT.value, ImportOutcome.MALFORMED.value
    own_key = keys.with_columns(pl.col("outcome").replace(unknown, malformed))
    words = prompt_cells(rows, prompt.text)
    fields = {
        "answer": column_text(rows, prompt.answer, "answer", ImportOutcome.UNSUPPORTED_ANSWER),
        "source": column_name(rows, prompt.source, "source"),
        "split": column_text(rows, prompt.split, "split", ImportOutcome.MALFORMED),
        "metadata": _metadata(rows, prompt),
    }
    return pl.DataFrame(
        {
            "row": rows.numbers,
            "key": keys["text"],
            **words.select("kind", "text").to_dict(),
            **{name: field["text"] for name, field in fields.items()},
            **first_refusal([own_key, words, *fields.values()]).to_dict(),
        }
    )


def _metadata(rows: SourceRows, prompt: PromptFields) -> pl.DataFrame:
    if prompt.metadata is None:
        return missing_field(rows)
    for column in several(prompt.metadata):
        require_column(rows, column)
    return metadata_field(rows, several(prompt.metadata))


def _completions(rows: SourceRows, slot: str, fields: CompletionFields, keys: pl.DataFrame) -> pl.DataFrame:
    words = column_cells(rows, fields.text)
    model = column_name(rows, fields.model, "model")
    key = missing_field(rows) if fields.key is None else column_key(rows, fields.key, "completion's key")
    return pl.DataFrame(
        {
            "row": rows.numbers,
            "prompt": keys["text"],
            "key": key["text"],
            "model": model["text"],
            **words.to_dict(),
            **first_refusal([keys, model, key]).to_dict(),
        }
    ).with_columns(slot=pl.lit(slot))


def _scores(rows: SourceRows, fields: ScoreFields, keys: pl.DataFrame, slots: Collection[str]) -> list[pl.DataFrame]:
    """One frame per score column."""
    of = references(rows, fields.of, fields.seen, slots)
    said = said_of(rows, fields)
    parts = [_score(rows, column, fields, (keys, of, said)) for column in several(fields.score)]
    if isinstance(fields.score, str):
        return parts
    return [part.with_columns(aspect=pl.lit(name)) for part, name in zip(parts, fields.score, strict=True)]


def _score(
    rows: SourceRows, column: str, fields: ScoreFields, about: tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]
) -> pl.DataFrame:
    keys, of, said = about
    rating = scores(rating_cells(rows, column), fields)
    return pl.DataFrame(
        {
            "row": rows.numbers,
            "prompt": keys["text"],
            "completion": of.select(REFERENCE_SCHEMA.keys()).to_struct(),
            "score": rating["number"],
            **rating.select("failure", "raw").to_dict(),
            **said.drop("outcome", "detail").to_dict(),
            **first_refusal([keys, rating, said, of]).to_dict(),
        }
    )


def _comparisons(
    rows: SourceRows, fields: ComparisonFields, keys: pl.DataFrame, slots: Collection[str]
) -> pl.DataFrame:
    a = references(rows, fields.a, fields.a_seen, slots)
    b = references(rows, fields.b, fields.b_seen, slots)
    said = said_of(rows, fields)
    order = order_of(rows, fields.order)
    rating = preferences(rating_cells(rows, fields.preference), fields)
    return pl.DataFrame(
        {
            "row": rows.numbers,
            "prompt": keys["text"],
            "a": a.select(REFERENCE_SCHEMA.keys()).to_struct(),
            "b": b.select(REFERENCE_SCHEMA.keys()).to_struct(),
            "order": order["text"],
            "preference": rating["number"],
            **rating.select("failure", "raw").to_dict(),
            **said.drop("outcome", "detail").to_dict(),
            **first_refusal([keys, rating, said, order, a, b]).to_dict(),
        }
    )
