"""What scorers and judges answer, as facts: every planned key is claimed once, every batch stored as it finishes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias, TypeVar

import polars as pl
import pyarrow as pa

from prefkit.errors import LedgerError
from prefkit.pipeline.progress import Progress
from prefkit.records import FactTable
from prefkit.scoring.protocol import Comparison, ComparisonFailure, Score, ScoreFailure, ScoreFailureKind
from prefkit.store.facts import FactStore

Answer = TypeVar("Answer", Score | ScoreFailure, Comparison | ComparisonFailure)
Row: TypeAlias = Mapping[str, object]

SPENT = ("raw", "input_tokens", "output_tokens", "cost")


def store_answers(
    facts: FactStore,
    table: FactTable,
    planned: pl.DataFrame,
    key: Sequence[str],
    batches: Iterable[Sequence[Answer]],
    to_rows: Callable[[Sequence[Answer], Sequence[Row]], pa.Table],
    who: str,
    progress: Progress,
) -> None:
    """Stores the answers to the planned rows, whose `key` columns are also attributes of an answer.

    `to_rows` makes rows of a batch of answers and of the planned rows they belong to. Raises LedgerError when something
    is answered that was not asked for, twice, or not at all; what was stored before stays.
    """
    open_rows: dict[tuple[object, ...], Row] = {
        tuple(row[name] for name in key): row for row in planned.iter_rows(named=True)
    }
    for batch in batches:
        facts.append(table, to_rows(batch, [_claimed(open_rows, key, answer, who) for answer in batch]))
        progress.advance(len(batch))
    if open_rows:
        raise LedgerError(
            f"{who} answered {planned.height - len(open_rows)} of {planned.height} requests, expected all: "
            "the build is refused"
        )


def _claimed(open_rows: dict[tuple[object, ...], Row], key: Sequence[str], answer: object, who: str) -> Row:
    asked = tuple(getattr(answer, name) for name in key)
    if asked not in open_rows:
        told = ", ".join(part.hex() if isinstance(part, bytes) else str(part) for part in asked)
        raise LedgerError(
            f"{who} answered {told}, which was not asked for or was answered before: the build is refused"
        )
    return open_rows.pop(asked)


def next_attempt(row: Row) -> int:
    """Which try at a key this is, from 0."""
    attempt = row["attempt"]
    return attempt + 1 if isinstance(attempt, int) else 0


def answer_columns(
    answer: Score | ScoreFailure | Comparison | ComparisonFailure, name: str, least: float, most: float
) -> dict[str, object]:
    """What a row says of an answer: its number (the attribute `name`) or a failure, as one out of bounds is too."""
    spent: dict[str, object] = {column: getattr(answer, column) for column in SPENT}
    if isinstance(answer, ScoreFailure | ComparisonFailure):
        return spent | _failure(answer.kind, answer.detail)
    value: float = getattr(answer, name)
    if not least <= value <= most:  # NaN compares false
        expected = f"expected a number from {least:g} to {most:g}"
        return spent | _failure(ScoreFailureKind.UNPARSABLE, f"the {name} is {value}, {expected}")
    return spent | {name: value, "rationale": answer.rationale, "transient": False}


def _failure(kind: ScoreFailureKind, detail: str | None) -> dict[str, object]:
    return {"failure": str(kind), "detail": detail, "transient": kind.transient}
