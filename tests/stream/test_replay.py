from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.errors import DamageError, LedgerError
from prefkit.stream.events import Base, Drop, End, Event, Sync
from prefkit.stream.order import shuffled
from prefkit.stream.replay import outcomes, served_rows, shuffled_rows
from tests.stream.builders import new_rows, numbers, record, rows

HISTORY: list[Event] = [
    new_rows(0, 4),
    Sync(2, 2, "aa", (2, 3)),
    new_rows(4, 3),
    Drop(3, (5,)),
    new_rows(7, 5),
    End(4, 6),
]


def served(folder: Path, count: int | None = None) -> list[int]:
    return [number for table in served_rows(folder, count) for number in numbers(table)]


def test_served_rows_are_those_neither_dropped_nor_left_over(tmp_path: Path) -> None:
    record(tmp_path, HISTORY)
    assert served(tmp_path) == [0, 1, 4, 6, 7, 8]
    assert outcomes(tmp_path) == {"served": 6, "stale_at_sync": 3, "not_served": 3, "superseded": 0}


def test_served_rows_stop_at_the_number_that_is_given(tmp_path: Path) -> None:
    record(tmp_path, HISTORY)
    assert served(tmp_path, 3) == [0, 1, 4]
    assert served(tmp_path, 0) == []
    assert served(tmp_path, 9) == [0, 1, 4, 6, 7, 8, 9, 10, 11]


def test_run_that_was_not_ended_serves_all_that_was_not_dropped(tmp_path: Path) -> None:
    record(tmp_path, [*HISTORY, new_rows(12, 1)])
    assert served(tmp_path) == [0, 1, 4, 6, 7, 8, 9, 10, 11, 12]


def test_superseded_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    record(tmp_path, HISTORY)
    record(tmp_path, [new_rows(4, 2, cursor=100), End(4, 3)], 1, Base(0, 3))
    assert served(tmp_path) == [0, 1, 4]
    assert outcomes(tmp_path) == {"served": 3, "stale_at_sync": 2, "not_served": 1, "superseded": 8}


def test_more_rows_served_than_there_are_is_refused(tmp_path: Path) -> None:
    record(tmp_path, HISTORY)
    with pytest.raises(LedgerError, match="10 rows were served, expected at most the 9"):
        served(tmp_path, 10)


def test_damage_stops_a_replay_before_its_first_row(tmp_path: Path) -> None:
    path = record(tmp_path, HISTORY)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamageError, match="frame 6 "):
        next(served_rows(tmp_path))


@given(st.lists(st.integers(0, 7), max_size=8), st.one_of(st.none(), st.integers(1, 30)), st.integers(0, 9))
def test_shuffled_rows_do_not_depend_on_how_the_tables_are_cut(
    counts: Sequence[int], window: int | None, seed: int
) -> None:
    starts = [sum(counts[:i]) for i in range(len(counts))]
    tables = [rows(range(start, start + count)) for start, count in zip(starts, counts, strict=True)]
    found = [numbers(table) for table in shuffled_rows(tables, window, seed)]
    assert all(len(part) <= (window or sum(counts)) for part in found)
    assert [n for part in found for n in part] == shuffled(np.arange(sum(counts)), window, seed).tolist()
