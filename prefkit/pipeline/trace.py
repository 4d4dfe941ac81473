"""`trace`: from the first digits of an id to the row's whole story, for dropped rows too.

Everything about a row hangs on its prompt, so that is found first. Facts are read as they are now: a story also tells
what was computed after the versions that it names.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

import polars as pl

from prefkit.errors import DamageError, NotFoundError, RecipeError
from prefkit.identity import ID_BYTES, Json
from prefkit.pipeline.fates import PAIR_STAGES, PromptFate, pair_sides, prompt_fates
from prefkit.pipeline.publish import PAIRS
from prefkit.pipeline.story import (
    Call,
    CompletionKey,
    CompletionStory,
    Draw,
    RowKind,
    ScoreStory,
    Settings,
    Story,
    Task,
)
from prefkit.records import COMPLETIONS, CONFIGS, PROMPTS, SCORES, TASKS
from prefkit.store.batch_ids import batch_time
from prefkit.store.facts import FactStore, settled
from prefkit.store.versions import Version
from prefkit.store.workspace import Workspace

FEWEST_DIGITS = 6
PREFIX = re.compile(rf"[0-9a-f]{{{FEWEST_DIGITS},{2 * ID_BYTES}}}")
MOST_NAMED = 8
"""So many rows are named when a prefix fits several."""

_Row: TypeAlias = Mapping[str, Any]
"""A row of a frame; what its columns hold is in `prefkit.records`."""
_TABLES = {RowKind.PROMPT: PROMPTS, RowKind.TASK: TASKS, RowKind.COMPLETION: COMPLETIONS, RowKind.SCORE: SCORES}
_TRY = ("id", "batch_id", "attempt", "failure", "detail", "transient")
_KEY = ("policy_id", "policy_version", "sampler_id", "sample_index")
_DRAW = ("completion", "finish_reason", "token_ids")
_LABEL = ("completion_id", "scorer_id", "aspect", "repeat", "input_id")
_REPLY = ("score", "rationale", "raw", "input_tokens", "output_tokens", "cost")


@dataclass(frozen=True, slots=True)
class FoundRow:
    """The one row that a prefix names, and the prompt it belongs to."""

    kind: RowKind
    id: bytes
    prompt_id: bytes


def row_story(workspace: Workspace, row_id: str) -> Story:
    """The story of the prompt, task, completion, score or pair whose id begins with these hex digits, at least six.

    Raises NotFoundError when there is none, RecipeError when these are no such digits or several rows begin with them.
    """
    with workspace.shared():
        versions = [v for name in workspace.versions.names() for v in workspace.versions.all(name)]
        found = found_row(workspace.facts, versions, row_id)
        return _story(workspace.facts, versions, found)


def found_row(facts: FactStore, versions: Iterable[Version], row_id: str) -> FoundRow:
    """The row whose id begins with these digits; errors as in `row_story`."""
    prefix = row_id.strip().lower()
    if not PREFIX.fullmatch(prefix):
        raise RecipeError(
            f"row id {row_id!r} cannot be looked up, expected {FEWEST_DIGITS} to {2 * ID_BYTES} hex digits: "
            "copy the beginning of an id that `prefkit show` prints"
        )
    rows = _rows_beginning(facts, versions, prefix)
    if rows.is_empty():
        raise NotFoundError(
            f"row id {row_id!r} fits no row, expected the beginning of the id of a prompt, task, completion, score or "
            "pair: copy one that `prefkit show` prints"
        )
    if rows.height > 1:
        named = ", ".join(
            f"{kind} {found.hex()}" for kind, found in rows.select("kind", "id").head(MOST_NAMED).iter_rows()
        )
        more = f" and {rows.height - MOST_NAMED} more" if rows.height > MOST_NAMED else ""
        raise RecipeError(f"row id {row_id!r} fits {rows.height} rows, expected one ({named}{more}): give more digits")
    kind, found, prompt_id = rows.row(0)
    return FoundRow(RowKind(kind), found, prompt_id or _prompt_of(facts, RowKind(kind), found))


def _rows_beginning(facts: FactStore, versions: Iterable[Version], prefix: str) -> pl.DataFrame:
    """`kind`, `id` and, of pairs, `prompt_id` of every row that the prefix fits, each once."""
    first, last = (pl.lit(bytes.fromhex(prefix.ljust(2 * ID_BYTES, digit))) for digit in "0f")
    fits = pl.col("id").is_between(first, last)
    nowhere = pl.lit(None, pl.Binary).alias("prompt_id")
    parts = [
        facts.read(table, ["id"]).filter(fits).select(pl.lit(kind.value).alias("kind"), "id", nowhere)
        for kind, table in _TABLES.items()
    ]
    for version in versions:
        if version.content["kind"] == PAIRS:
            rows = version.frame().select("prompt_id", id="pair_id")
            dropped = version.outcomes().filter(pl.col("stage").is_in(PAIR_STAGES)).select("prompt_id", "id")
            kind = pl.lit(RowKind.PAIR.value).alias("kind")
            parts += [part.filter(fits).select(kind, "id", "prompt_id").collect() for part in (rows, dropped)]
    return pl.concat(parts).unique(["kind", "id"]).sort("kind", "id")


def _prompt_of(facts: FactStore, kind: RowKind, row_id: bytes) -> bytes:
    match kind:
        case RowKind.PROMPT:
            return row_id
        case RowKind.SCORE:
            return _prompt_of(
                facts, RowKind.COMPLETION, facts.read(SCORES, ["completion_id"], {"id": row_id}).item(0, 0)
            )
        case _:
            return facts.read(_TABLES[kind], ["prompt_id"], {"id": row_id}).item(0, 0)


def _story(facts: FactStore, versions: Iterable[Version], found: FoundRow) -> Story:
    of_prompt = {"prompt_id": found.prompt_id}
    tasks = settled(facts.read(TASKS, ["id", "batch_id", "answer", "source", "split", "metadata"], of_prompt))
    draws = _tried(facts.read(COMPLETIONS, [*_TRY, *_KEY, *_DRAW], of_prompt))
    ids = draws.sort(*_KEY)["id"].unique(maintain_order=True)
    fates = prompt_fates(facts, versions, found.prompt_id, tasks["id"], ids)
    told = _told_completions(facts, found, ids)
    labels = _tried(facts.read(SCORES, [*_TRY, *_LABEL, *_REPLY], {"completion_id": told}))
    configs = _Configs.read(facts)
    stories = tuple(
        _completion(draws.filter(pl.col("id") == i), labels.filter(pl.col("completion_id") == i), configs, fates)
        for i in told
    )
    match found.kind:
        case RowKind.PAIR:
            own = [fate.of_pair(found.id.hex(), [s.key for s in stories]) for fate in fates]
        case RowKind.PROMPT | RowKind.TASK:
            own = [fate.of_prompt() for fate in fates]
        case _:
            own = []
    messages = facts.read(PROMPTS, ["messages"], {"id": found.prompt_id}).row(0)[0]
    known = tuple(_task(row) for row in tasks.sort("batch_id", "id").iter_rows(named=True))
    return Story(found.kind, found.id.hex(), found.prompt_id.hex(), messages, known, stories, tuple(own))


def _told_completions(facts: FactStore, found: FoundRow, of_prompt: pl.Series) -> list[bytes]:
    """The completions that the story is about, in its order."""
    match found.kind:
        case RowKind.COMPLETION:
            return [found.id]
        case RowKind.SCORE:
            return [facts.read(SCORES, ["completion_id"], {"id": found.id}).item(0, 0)]
        case RowKind.PAIR:
            sides = pair_sides(of_prompt, pl.Series([found.id])).get(found.id)
            if sides is None:
                raise DamageError(
                    f"pair {found.id.hex()} has completions that are not in the fact tables: run `prefkit verify`, and "
                    "restore the workspace from a copy"
                )
            return list(sides)
        case _:
            return of_prompt.to_list()


def _tried(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of a fact table in the order they were tried, `superseded` true where another row of the key counts."""
    rows = rows.with_row_index("row")
    counts = pl.col("row").is_in(settled(rows)["row"].implode())
    return rows.with_columns(superseded=~counts).sort("attempt", "batch_id").drop("row")


def _completion(
    draws: pl.DataFrame, labels: pl.DataFrame, configs: "_Configs", fates: Iterable[PromptFate]
) -> CompletionStory:
    row = draws.row(0, named=True)
    key = CompletionKey(row["id"].hex(), *(row[name] for name in _KEY))
    scores = labels.partition_by("id", maintain_order=True)
    told = sorted(
        (_score(rows, configs) for rows in scores), key=lambda s: (s.aspect, s.scorer.id, s.input_id, s.repeat)
    )
    return CompletionStory(
        key,
        configs.policies.get(key.policy_id),
        configs.settings("sampler", key.sampler_id),
        tuple(_draw(row) for row in draws.iter_rows(named=True)),
        tuple(told),
        tuple(fate.of_completion(key, [s.id for s in told]) for fate in fates),
    )


def _score(rows: pl.DataFrame, configs: "_Configs") -> ScoreStory:
    row = rows.row(0, named=True)
    scorer = configs.settings("scorer", row["scorer_id"])
    calls = tuple(Call(**_common(r), **{name: r[name] for name in _REPLY}) for r in rows.iter_rows(named=True))
    return ScoreStory(row["id"].hex(), scorer, row["aspect"], row["repeat"], row["input_id"], calls)


def _draw(row: _Row) -> Draw:
    tokens = None if row["token_ids"] is None else len(row["token_ids"])
    return Draw(**_common(row), completion=row["completion"], finish_reason=row["finish_reason"], tokens=tokens)


def _common(row: _Row) -> dict[str, Any]:
    names = ("attempt", "failure", "detail", "superseded")
    return {name: row[name] for name in names} | {"transient": bool(row["transient"]), "when": _when(row["batch_id"])}


def _task(row: _Row) -> Task:
    metadata = json.loads(row["metadata"]) if row["metadata"] else None
    return Task(row["id"].hex(), row["answer"], row["source"], row["split"], metadata, _when(row["batch_id"]))


def _when(batch_id: bytes) -> str:
    return datetime.fromtimestamp(batch_time(batch_id), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class _Configs:
    """What config ids and policy ids stand for."""

    named: Mapping[tuple[str, int], tuple[str, Json]]
    policies: Mapping[str, Json]

    @classmethod
    def read(cls, facts: FactStore) -> "_Configs":
        read = facts.read(CONFIGS, ["kind", "config_id", "name", "json"])
        rows = [(kind, number, name, json.loads(text)) for kind, number, name, text in read.iter_rows()]
        return cls(
            {(kind, number): (name, values) for kind, number, name, values in rows if number is not None},
            {name: values for kind, _, name, values in rows if kind == "policy"},
        )

    def settings(self, kind: str, config_id: int) -> Settings:
        return Settings(config_id, *self.named.get((kind, config_id), (None, None)))
