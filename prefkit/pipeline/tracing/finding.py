"""From the first digits of an id to the one row that has it, and to the prompt that everything about it hangs on."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from prefkit.errors import DamageError, NotFoundError, RecipeError
from prefkit.identity import ID_BYTES
from prefkit.pipeline.publish import PAIRS
from prefkit.pipeline.tracing.fates import pair_sides
from prefkit.pipeline.tracing.stage_kinds import kinds_of_stages
from prefkit.pipeline.tracing.verdicts import RowKind
from prefkit.records import COMPARISONS, COMPLETIONS, PROMPTS, SCORES, TASKS
from prefkit.store.facts import FactStore
from prefkit.store.versions import Version

FEWEST_DIGITS = 6
PREFIX = re.compile(rf"[0-9a-f]{{{FEWEST_DIGITS},{2 * ID_BYTES}}}")
MOST_NAMED = 8
"""So many rows are named when a prefix fits several."""

_TABLES = {
    RowKind.PROMPT: PROMPTS,
    RowKind.TASK: TASKS,
    RowKind.COMPLETION: COMPLETIONS,
    RowKind.SCORE: SCORES,
    RowKind.COMPARISON: COMPARISONS,
}
_OF_COMPLETION = {RowKind.SCORE: "completion_id", RowKind.COMPARISON: "completion_a"}


@dataclass(frozen=True, slots=True)
class FoundRow:
    """The one row that a prefix names, and the prompt it belongs to."""

    kind: RowKind
    id: bytes
    prompt_id: bytes


def found_row(facts: FactStore, versions: Iterable[Version], row_id: str) -> FoundRow:
    """The row whose id begins with these digits.

    Raises NotFoundError when there is none, RecipeError when these are no such digits or several rows begin with them.
    """
    prefix = row_id.strip().lower()
    if not PREFIX.fullmatch(prefix):
        raise RecipeError(
            f"row id {row_id!r} cannot be looked up, expected {FEWEST_DIGITS} to {2 * ID_BYTES} hex digits: "
            "copy the beginning of an id that `prefkit show` prints"
        )
    rows = _rows_beginning(facts, versions, prefix)
    if rows.is_empty():
        raise NotFoundError(
            f"row id {row_id!r} fits no row, expected the beginning of the id of a prompt, task, completion, score, "
            "comparison or pair: copy one that `prefkit show` prints"
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
            stages = [stage for stage, kind in kinds_of_stages(version).items() if kind == RowKind.PAIR]
            rows = version.frame().select("prompt_id", id="pair_id")
            dropped = version.outcomes().filter(pl.col("stage").is_in(stages)).select("prompt_id", "id")
            kind = pl.lit(RowKind.PAIR.value).alias("kind")
            parts += [part.filter(fits).select(kind, "id", "prompt_id").collect() for part in (rows, dropped)]
    return pl.concat(parts).unique(["kind", "id"]).sort("kind", "id")


def _prompt_of(facts: FactStore, kind: RowKind, row_id: bytes) -> bytes:
    if kind == RowKind.PROMPT:
        return row_id
    if kind in _OF_COMPLETION:
        completion_id = _value(facts, kind, row_id, _OF_COMPLETION[kind])
        return _prompt_of(facts, RowKind.COMPLETION, completion_id)
    return _value(facts, kind, row_id, "prompt_id")


def told_completions(facts: FactStore, found: FoundRow, of_prompt: pl.Series) -> list[bytes]:
    """The completions that the story of a row is about, in its order; `of_prompt` are all of its prompt."""
    match found.kind:
        case RowKind.COMPLETION:
            return [found.id]
        case RowKind.SCORE:
            return [_value(facts, found.kind, found.id, "completion_id")]
        case RowKind.COMPARISON:
            return [_value(facts, found.kind, found.id, side) for side in ("completion_a", "completion_b")]
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


def _value(facts: FactStore, kind: RowKind, row_id: bytes, column: str) -> bytes:
    """A column of a row's key, the same in every row of the id. Raises DamageError when what it refers to is gone."""
    rows = facts.read(_TABLES[kind], [column], {"id": row_id})
    if rows.is_empty():
        raise DamageError(
            f"{kind} {row_id.hex()} is not in the fact tables, but something was said about it: run `prefkit verify`, "
            "and restore the workspace from a copy"
        )
    return rows.item(0, 0)
