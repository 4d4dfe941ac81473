"""From a recording to the rows that a run served, in the order it served them: no sampler, scorer or prompt file."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from prefkit.errors import LedgerError
from prefkit.stream.events import Drop, End, NewRows, Serve, Start, Sync
from prefkit.stream.order import shuffled
from prefkit.stream.recording import Frame, chain, superseded
from prefkit.stream.sources import ONLY

SERVED, STALE, NOT_SERVED, SUPERSEDED = "served", "stale_at_sync", "not_served", "superseded"


@dataclass(frozen=True, slots=True)
class Fates:
    """What became of the rows of a chain."""

    recorded: int
    stale: frozenset[int]
    """Numbers of the rows that were dropped."""
    order: Sequence[int]
    """Numbers of the rows that were served, in the order they were."""

    @property
    def served(self) -> int:
        """How many rows were served."""
        return len(self.order)


def fates(frames: Iterable[Frame], served: int | None = None) -> Fates:
    """What became of the rows of these frames.

    `served` says how many were served. Without it the `End` does, and in a run that was not ended all rows count that
    were not dropped, or of a mix all that had their turn. Raises LedgerError when more were served than there are.
    """
    recorded, stale, ended = 0, set[int](), None
    mixed, turns = False, list[int]()
    for frame in frames:
        match frame.event:
            case Start():
                continue
            case NewRows(batch=batch, source=source):
                recorded += batch.rows.num_rows
                mixed = source != ONLY
            case Serve(rows=numbers):
                turns += numbers
            case Sync(stale=numbers) | Drop(stale=numbers):
                stale.update(numbers)
            case _:
                pass
        ended = frame.event.rows_served if isinstance(frame.event, End) else None
    order = turns if mixed else [number for number in range(recorded) if number not in stale]
    count = next((n for n in (served, ended) if n is not None), len(order))
    if count > len(order):
        raise LedgerError(
            f"{count} rows were served, expected at most the {len(order)} that were recorded and not dropped: this is "
            "a bug, or the recording is of another run"
        )
    return Fates(recorded, frozenset(stale), order[:count])


def outcomes(folder: Path, served: int | None = None) -> dict[str, int]:
    """How many rows of a `recording` folder ended in each outcome; `served` as in `fates`."""
    known = fates(chain(folder), served)
    beside = sum(frame.event.batch.rows.num_rows for frame in superseded(folder) if isinstance(frame.event, NewRows))
    left = known.recorded - known.served - len(known.stale)
    return {SERVED: known.served, STALE: len(known.stale), NOT_SERVED: left, SUPERSEDED: beside}


def served_rows(folder: Path, served: int | None = None) -> Iterator[pa.Table]:
    """The rows that a run served, in the order it served them; `served` as in `fates`.

    A table has those that were due when its micro-batch was recorded, so only rows that wait are held. Reads the
    recording twice: what was dropped is known only later. Raises as `chain`.
    """
    order = fates(chain(folder), served).order
    kept, at = set(order), 0
    held, place = pa.table({}), dict[int, int]()
    for event in _new_rows(folder):
        rows = event.batch.rows
        place |= {event.first_row + n: held.num_rows + n for n in range(rows.num_rows)}
        held = pa.concat_tables([held, rows], promote_options="default") if held.num_rows else rows
        first = at
        while at < len(order) and order[at] in place:
            at += 1
        if at > first:
            yield held.take(np.array([place.pop(number) for number in order[first:at]]))
        left = [number for number in place if number in kept]
        held = held.take(np.array([place[number] for number in left], np.int64))
        place = {number: n for n, number in enumerate(left)}


def fated_rows(folder: Path, served: int | None = None) -> Iterator[tuple[NewRows, list[str]]]:
    """The micro-batches of the chain, and the outcome of each row of theirs; `served` as in `fates`.

    Reads the recording twice, and raises, as `served_rows`.
    """
    known = fates(chain(folder), served)
    kept = set(known.order)
    for event in _new_rows(folder):
        numbers = range(event.first_row, event.first_row + event.batch.rows.num_rows)
        yield event, [STALE if n in known.stale else SERVED if n in kept else NOT_SERVED for n in numbers]


def _new_rows(folder: Path) -> Iterator[NewRows]:
    return (frame.event for frame in chain(folder) if isinstance(frame.event, NewRows))


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
