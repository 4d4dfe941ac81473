"""From a recording to the rows that a run served, in the order it served them: no sampler, scorer or prompt file."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from prefkit.errors import LedgerError
from prefkit.stream.events import Drop, End, NewRows, Start, Sync
from prefkit.stream.order import shuffled
from prefkit.stream.recording import Frame, chain, superseded

SERVED, STALE, NOT_SERVED, SUPERSEDED = "served", "stale_at_sync", "not_served", "superseded"


@dataclass(frozen=True, slots=True)
class Fates:
    """What became of the rows of a chain."""

    recorded: int
    stale: frozenset[int]
    """Numbers of the rows that were dropped."""
    served: int
    """How many of the others were served: the first so many of them."""


def fates(frames: Iterable[Frame], served: int | None = None) -> Fates:
    """What became of the rows of these frames.

    `served` says how many were served. Without it the `End` does, and in a run that was not ended all rows count that
    were not dropped. Raises LedgerError when more were served than there are.
    """
    recorded, stale, ended = 0, set[int](), None
    for frame in frames:
        match frame.event:
            case Start():
                continue
            case NewRows(batch=batch):
                recorded += batch.rows.num_rows
            case Sync(stale=numbers) | Drop(stale=numbers):
                stale.update(numbers)
            case _:
                pass
        ended = frame.event.rows_served if isinstance(frame.event, End) else None
    left = recorded - len(stale)
    count = next((n for n in (served, ended) if n is not None), left)
    if count > left:
        raise LedgerError(
            f"{count} rows were served, expected at most the {left} that were recorded and not dropped: this is a bug, "
            "or the recording is of another run"
        )
    return Fates(recorded, frozenset(stale), count)


def outcomes(folder: Path, served: int | None = None) -> dict[str, int]:
    """How many rows of a `recording` folder ended in each outcome; `served` as in `fates`."""
    known = fates(chain(folder), served)
    beside = sum(frame.event.batch.rows.num_rows for frame in superseded(folder) if isinstance(frame.event, NewRows))
    left = known.recorded - known.served - len(known.stale)
    return {SERVED: known.served, STALE: len(known.stale), NOT_SERVED: left, SUPERSEDED: beside}


def served_rows(folder: Path, served: int | None = None) -> Iterator[pa.Table]:
    """The rows that a run served, a table per micro-batch, in recorded order; `served` as in `fates`."""
    for rows, fate in fated_rows(folder, served):
        kept = [place for place, outcome in enumerate(fate) if outcome == SERVED]
        if kept:
            yield rows.take(kept)


def fated_rows(folder: Path, served: int | None = None) -> Iterator[tuple[pa.Table, list[str]]]:
    """The rows of the chain, a table per micro-batch, and the outcome of each row; `served` as in `fates`.

    Reads the recording twice: what was dropped is known only later. Raises as `chain`.
    """
    known = fates(chain(folder), served)
    left = known.served
    for frame in chain(folder):
        if isinstance(frame.event, NewRows):
            rows, fate = frame.event.batch.rows, list[str]()
            for number in range(frame.event.first_row, frame.event.first_row + rows.num_rows):
                fate.append(STALE if number in known.stale else SERVED if left else NOT_SERVED)
                left -= fate[-1] == SERVED
            yield rows, fate


def shuffled_rows(tables: Iterable[pa.Table], window: int | None, seed: int) -> Iterator[pa.Table]:
    """The rows of the tables, a table per window of `window` consecutive ones, shuffled; None is one window of all.

    The order is that of `prefkit.stream.order.shuffled` over their positions; only a window is held.
    """
    first = 0
    for table in _windows(tables, window):
        yield table.take(shuffled(np.arange(first, first + table.num_rows), None, seed) - first)
        first += table.num_rows


def _windows(tables: Iterable[pa.Table], size: int | None) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    held = 0
    for table in tables:
        waiting.append(table)
        held += table.num_rows
        if size is not None and held >= size:
            together = pa.concat_tables(waiting)
            whole = held - held % size
            yield from (together.slice(at, size) for at in range(0, whole, size))
            waiting, held = [together.slice(whole)], held - whole
    if held:
        yield pa.concat_tables(waiting)
