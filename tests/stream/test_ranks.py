"""Several ranks are served the rows of one process, recorded once, and end together."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Barrier

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.errors import RankError, SyncError, WorkspaceError
from prefkit.stream.clock import Clock
from prefkit.stream.events import NewRows, Start
from prefkit.stream.mixing import Phase
from prefkit.stream.protocol import MicroBatch, Weights
from prefkit.stream.ranked import RankedKeeper
from prefkit.stream.ranks import Ranks, Share, from_each, from_first, on_each
from prefkit.stream.recording import Recorder
from prefkit.stream.replay import outcomes
from prefkit.stream.state import SAMPLER
from tests.stream.ranked import (
    ALONE,
    Step,
    TellingSource,
    ThreadRank,
    Training,
    on_ranks,
    opened_step,
    recorded,
    together,
)

SIZES = st.lists(st.integers(1, 3), min_size=1, max_size=4)
ROWS = st.lists(st.integers(0, 5), min_size=1, max_size=5).filter(any)
CLOCKS = st.builds(
    Clock,
    sync_period=st.sampled_from([1.0, 2.0, 3.0, float("inf")]),
    reference_reset_period=st.sampled_from([None, 1, 2]),
)


@st.composite
def trainings(draw: st.DrawFn) -> Training:
    source = partial(TellingSource, draw(SIZES), draw(ROWS))
    mix = draw(st.sampled_from([(), (Phase({"live": 1, "stored": 2}, 3), Phase({"live": 1, "stored": 1}))]))
    return Training(
        source, draw(CLOCKS), Path(), steps=6, batch=draw(st.integers(1, 3)), per_step=draw(st.integers(1, 2)),
        save_every=draw(st.integers(1, 3)), mix=mix,
    )  # fmt: skip


def placed(training: Training, folder: Path, ranks: int = 1) -> Training:
    folder.mkdir()
    return training.of_one(ranks, folder)


@settings(max_examples=25, deadline=None)
@given(trainings(), st.integers(1, 4))
def test_rows_of_several_ranks_are_those_of_one_process_with_all_their_batches(training: Training, size: int) -> None:
    with TemporaryDirectory() as scratch:
        many, one = placed(training, Path(scratch, "many")), placed(training, Path(scratch, "one"), size)
        assert together(many, on_ranks(size, many.run)) == one.run(ALONE)
        assert recorded(many.folder) == recorded(one.folder)


@settings(max_examples=25, deadline=None)
@given(trainings(), st.integers(1, 4), st.integers(1, 6))
def test_ranks_that_were_killed_and_go_on_are_served_as_if_they_had_not_been(
    training: Training, size: int, killed: int
) -> None:
    with TemporaryDirectory() as scratch:
        many, one = placed(training, Path(scratch, "many")), placed(training, Path(scratch, "one"), size)
        whole = one.run(ALONE)
        assert together(many, on_ranks(size, partial(many.run, until=killed))) == whole[:killed]
        saved = (killed - 1) // training.save_every * training.save_every
        go_on = partial(many.resume, step=saved) if saved else many.run
        assert together(many, on_ranks(size, go_on)) == whole[saved:]
        assert recorded(many.folder) == recorded(one.folder)


def training(folder: Path, source: type[TellingSource] = TellingSource, **given: object) -> Training:
    settings = {"steps": 4, "batch": 2, **given}
    return Training(partial(source, (1, 2), (3, 0, 2)), Clock(2.0), folder, **settings)  # type: ignore[arg-type]


def told(results: list[list[list[str]] | Exception]) -> list[str]:
    assert all(isinstance(result, Exception) for result in results), results
    return [str(result) for result in results]


def test_ranks_draw_every_micro_batch_once_where_none_is_forgotten(tmp_path: Path) -> None:
    sources: list[TellingSource] = []

    def remembered() -> TellingSource:
        sources.append(TellingSource((2,), (4,)))
        return sources[-1]

    run = Training(remembered, Clock(float("inf")), tmp_path, steps=4, batch=2)
    on_ranks(2, run.run)
    drawn = sorted(sources[0].drawn + sources[1].drawn)
    assert drawn == [0, 2, 4, 6]
    assert len(sources[0].drawn) == len(sources[1].drawn) == 2


def test_ranks_go_over_what_was_recorded_without_drawing(tmp_path: Path) -> None:
    whole = together(training(tmp_path), on_ranks(2, training(tmp_path).run))

    class Forbidden(TellingSource):
        def micro_batch(self, cursor: int) -> MicroBatch | None:
            raise AssertionError(cursor)

    again = training(tmp_path, Forbidden)
    assert together(again, on_ranks(2, partial(again.resume, step=2))) == whole[2:]


def test_ranks_whose_weights_come_out_otherwise_begin_one_new_attempt(tmp_path: Path) -> None:
    on_ranks(2, training(tmp_path).run)
    otherwise = training(tmp_path, salt="'", steps=6)
    rows = together(otherwise, on_ranks(2, partial(otherwise.resume, step=2)))
    assert all("sampled by 2 in 0" in row for step in rows[:2] for row in step)
    assert all("sampled by 4' in 1" in row for step in rows[2:] for row in step)
    assert sorted(path.name for path in (tmp_path / "recording").iterdir()) == ["0-0.arrows", "1-0.arrows"]


def test_source_that_ends_within_a_chunk_gives_every_rank_as_many_rows(tmp_path: Path) -> None:
    source = partial(TellingSource, (1,), (3,), ends_at=3)
    run = Training(source, Clock(float("inf")), tmp_path, steps=3, batch=2)
    assert [[len(step) for step in rows] for rows in on_ranks(2, run.run) if isinstance(rows, list)] == [[2, 2, 0]] * 2
    assert outcomes(tmp_path / "recording") == {"served": 8, "stale_at_sync": 0, "not_served": 1, "superseded": 0}


def test_finite_run_shares_its_last_rows_equally(tmp_path: Path) -> None:
    run = Training(partial(TellingSource, (1,), (5,)), Clock(float("inf")), tmp_path, steps=3, batch=4, rows=10)
    first, second = on_ranks(2, run.run)
    assert isinstance(first, list)
    assert isinstance(second, list)
    assert [len(step) for step in first] == [len(step) for step in second] == [4, 1, 0]
    assert len({row for rows in (first, second) for step in rows for row in step}) == 10


@pytest.mark.parametrize("method", ["micro_batch", "sync"])
@pytest.mark.parametrize("where", [0, 1, 2])
def test_mistake_on_any_rank_is_raised_on_all(tmp_path: Path, method: str, where: int) -> None:
    def work(ranks: Ranks) -> list[list[str]]:
        class Failing(TellingSource):
            def micro_batch(self, cursor: int) -> MicroBatch | None:
                return self._tried("micro_batch") or super().micro_batch(cursor)

            def sync(self, weights: Weights, policy_version: int) -> None:
                self._tried("sync")
                super().sync(weights, policy_version)

            def _tried(self, name: str) -> None:
                if (
                    name == method
                    and ranks.rank == where
                    and self.policy_version == (2 if name == "micro_batch" else 0)
                ):
                    raise SyncError(f"rank {where} cannot")

        return training(tmp_path, Failing).run(ranks)

    results = on_ranks(3, work)
    assert told(results) == [f"rank {where} cannot"] * 3
    assert {type(result) for result in results} == {SyncError}


def test_bug_on_a_rank_keeps_its_kind_there_and_ends_the_others_in_a_line() -> None:
    def work(ranks: Ranks) -> list[int]:
        return from_each(ranks, lambda: 1 // (1 - ranks.rank))

    first, second = on_ranks(2, work)
    assert isinstance(second, ZeroDivisionError)
    assert isinstance(first, RankError)
    assert "process 1 of 2 stopped with ZeroDivisionError" in str(first)


def test_recording_that_another_process_writes_ends_all_ranks(tmp_path: Path) -> None:
    with Recorder.begin(tmp_path / "recording", Start("r", 0)):
        results = on_ranks(2, training(tmp_path).run)
    assert all(isinstance(result, WorkspaceError) for result in results)
    assert len(set(told(results))) == 1


def test_ranks_with_other_weights_end_at_the_next_sync(tmp_path: Path) -> None:
    def work(ranks: Ranks) -> list[list[str]]:
        return training(tmp_path, salt=str(ranks.rank)).run(ranks)

    results = on_ranks(2, work)
    assert all(isinstance(result, RankError) for result in results)
    assert "expected the same weights on all of them" in told(results)[0]
    assert len([event for event in recorded(tmp_path) if not isinstance(event, NewRows)]) == 2


def test_weights_are_read_on_all_ranks_when_the_first_keeps_them(tmp_path: Path) -> None:
    """Shards are put together by all ranks: one that does not take part would be waited for."""

    def work(ranks: Ranks) -> None:
        class Sharded(Step):
            def tensors(self) -> list[tuple[str, object]]:
                on_each(ranks, lambda: None)
                return []

            def save(self, folder: Path) -> None:
                self.tensors()
                super().save(folder)

        RankedKeeper(ranks, tmp_path, lambda step: step == 3).sent(SAMPLER, Sharded(2), 2, 2.0)

    assert on_ranks(2, work) == [None, None]
    assert opened_step(tmp_path / SAMPLER) == Step(2)


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 30))
def test_shares_of_a_finite_run_are_equal_and_together_all_of_it(size: int, batch: int, each: int) -> None:
    for rank in range(size):
        share, served, own = Share(ThreadRank(rank, size, Barrier(size), []), batch, size * each), 0, 0
        while count := share.chunk(served):
            own += len(share.own(range(served, served + count)))
            served += count
        assert (served, own) == (size * each, each)


def test_first_rank_alone_does_what_only_it_may(tmp_path: Path) -> None:
    def work(ranks: Ranks) -> int:
        return from_first(ranks, lambda: 10 + ranks.rank)

    assert on_ranks(3, work) == [10, 10, 10]
