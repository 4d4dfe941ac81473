from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.errors import DamageError, NotFoundError, WorkspaceError
from prefkit.stream.events import FORMAT, Base, Drop, End, Event, NewRows, Reset, Start, Sync
from prefkit.stream.protocol import MicroBatch
from prefkit.stream.recording import Recorder, chain, newest_attempt, recording_path, stands, superseded
from tests.stream.builders import new_rows, record

HISTORY: list[Event] = [
    new_rows(0, 3),
    Sync(2, 2, "aa", (1, 2)),
    new_rows(3, 2, cursor=3, policy_version=2),
    Drop(3, (4,)),
    Reset(3, "bb"),
    End(4, 2),
]


def events(folder: Path) -> list[Event]:
    return [frame.event for frame in chain(folder) if not isinstance(frame.event, Start)]


def places(folder: Path) -> list[tuple[int, int]]:
    return [(frame.attempt, frame.number) for frame in chain(folder)]


def test_recording_of_every_kind_of_event_reads_back_equal(tmp_path: Path) -> None:
    record(tmp_path, HISTORY)
    assert events(tmp_path) == HISTORY
    assert next(chain(tmp_path)).event == Start("r", 0)


def test_recorded_tables_keep_types_nulls_lists_and_empty_ones(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": pa.array([b"0" * 16, None], pa.binary(16)),
            "messages": pa.array([[{"role": "user", "content": "é\n"}], None]),
            "ids": pa.array([[1, 2], []], pa.list_(pa.int32())),
            "name": pa.array(["a", "a"]).dictionary_encode(),
        }
    )
    event = NewRows(0, MicroBatch(7, 2, 3, table, {"rows": table.slice(1), "empty": table[:0]}, {}, {}), "live")
    record(tmp_path, [event])
    (found,) = events(tmp_path)
    assert found == event
    assert isinstance(found, NewRows)
    assert found.batch.rows.schema == table.schema
    assert found.batch.facts["empty"].schema == table.schema


@given(st.lists(st.sampled_from(HISTORY[1:2] + HISTORY[3:]), max_size=4), st.data())
def test_one_flipped_byte_anywhere_is_told_with_its_frame(
    tmp_path_factory: pytest.TempPathFactory, history: list[Event], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("recording")
    path = record(folder, [new_rows(0, 2), *history, new_rows(2, 1)])
    damaged = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(damaged) - 1))
    damaged[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged)
    with pytest.raises(DamageError, match=r"0-0\.arrows: frame \d+ "):
        list(chain(folder))


def test_recording_cut_inside_its_last_frame_resumes_after_the_one_before(tmp_path: Path) -> None:
    path = record(tmp_path, HISTORY[:2])
    before = path.stat().st_size
    with Recorder.resume(tmp_path, 0) as recorder:
        recorder.append(Reset(3, "b"))
    whole = path.read_bytes()
    for size in range(before, len(whole)):
        path.write_bytes(whole[:size])
        assert events(tmp_path) == HISTORY[:2]
        with Recorder.resume(tmp_path, 0) as recorder:
            assert recorder.frames == 3
            assert recorder.append(Reset(3, "b")) == 3
        assert path.read_bytes() == whole


def test_chain_goes_from_attempt_to_attempt_and_the_rest_is_superseded(tmp_path: Path) -> None:
    record(tmp_path, HISTORY)
    record(tmp_path, [new_rows(3, 4)], 1, Base(0, 3))
    record(tmp_path, [new_rows(3, 1), End(9, 2)], 2, Base(0, 3))
    record(tmp_path, [new_rows(4, 2)], 3, Base(2, 2))
    assert places(tmp_path) == [(0, 0), (0, 1), (0, 2), (2, 0), (2, 1), (3, 0), (3, 1)]
    assert [(frame.attempt, frame.number) for frame in superseded(tmp_path)] == [
        (0, 3), (0, 4), (0, 5), (0, 6), (1, 0), (1, 1), (2, 2),
    ]  # fmt: skip


def test_stands_says_whether_a_position_is_in_the_chain(tmp_path: Path) -> None:
    record(tmp_path, HISTORY)
    record(tmp_path, [new_rows(3, 4)], 1, Base(0, 3))
    assert [stands(tmp_path, 0, frames) for frames in (1, 3, 4)] == [True, True, False]
    assert [stands(tmp_path, 1, frames) for frames in (1, 2, 3)] == [True, True, False]
    assert not stands(tmp_path, 2, 1)


def test_attempt_whose_start_was_cut_off_was_never_begun(tmp_path: Path) -> None:
    record(tmp_path, HISTORY)
    torn = record(tmp_path, [], 1, Base(0, 3))
    torn.write_bytes(torn.read_bytes()[:-1])
    assert newest_attempt(tmp_path) == 0
    assert events(tmp_path) == HISTORY
    with pytest.raises(NotFoundError, match="begin it"):
        Recorder.resume(tmp_path, 1)
    record(tmp_path, [new_rows(3, 4)], 1, Base(0, 3))
    assert places(tmp_path)[-1] == (1, 1)


def test_chain_refuses_a_base_that_is_shorter_than_what_continues_it(tmp_path: Path) -> None:
    path = record(tmp_path, HISTORY[:2])
    record(tmp_path, [new_rows(3, 1)], 1, Base(0, 3))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamageError, match=r"0-0\.arrows: frame 2 is missing, expected 3 frames"):
        list(chain(tmp_path))


def test_chain_refuses_rows_that_do_not_follow_each_other(tmp_path: Path) -> None:
    record(tmp_path, [new_rows(0, 3), new_rows(4, 1)])
    with pytest.raises(DamageError, match="frame 2 begins with row 4, expected 3"):
        list(chain(tmp_path))


def test_chain_refuses_a_file_that_is_not_of_this_attempt_or_run(tmp_path: Path) -> None:
    record(tmp_path, HISTORY)
    record(tmp_path, [], 1, Base(0, 3))
    other = record(tmp_path / "other", HISTORY, 5)
    recording_path(tmp_path, 0).write_bytes(other.read_bytes())
    with pytest.raises(DamageError, match="does not hold attempt 0"):
        list(chain(tmp_path))
    with Recorder.begin(tmp_path / "foreign", Start("another", 0)) as foreign:
        foreign.append(new_rows(0, 3))
    recording_path(tmp_path, 0).write_bytes(recording_path(tmp_path / "foreign", 0).read_bytes())
    with pytest.raises(DamageError, match="is of run another, expected an earlier attempt of r"):
        list(chain(tmp_path))


def test_begin_refuses_an_attempt_that_was_recorded(tmp_path: Path) -> None:
    record(tmp_path, HISTORY)
    with pytest.raises(WorkspaceError, match="holds 7 frames, expected none"):
        Recorder.begin(tmp_path, Start("r", 0))
    assert events(tmp_path) == HISTORY


def test_nothing_recorded_is_told_and_another_rank_is_another_recording(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="holds no recording of rank 0"):
        list(chain(tmp_path))
    with Recorder.begin(tmp_path, Start("r", 0), rank=1) as recorder:
        recorder.append(new_rows(0, 1))
    assert newest_attempt(tmp_path) is None
    assert len(list(chain(tmp_path, rank=1))) == 2


def test_format_of_a_newer_prefkit_is_told(tmp_path: Path) -> None:
    Recorder.begin(tmp_path, Start("r", 0, format=FORMAT + 1)).close()
    with pytest.raises(WorkspaceError, match=f"has format {FORMAT + 1} of another prefkit, expected format {FORMAT}"):
        list(chain(tmp_path))
