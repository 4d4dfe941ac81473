"""Several sources in one stream: shares of the rows that are served, whatever the sources give, and the same again."""

from collections import Counter
from collections.abc import Mapping
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.errors import RecipeError
from prefkit.stream.clock import Clock
from prefkit.stream.events import NewRows, Serve
from prefkit.stream.mixing import Phase
from prefkit.stream.opening import begun_stream
from prefkit.stream.recording import chain, newest_attempt
from prefkit.stream.replay import fated_rows, outcomes
from prefkit.stream.replayed import ReplayStream
from tests.stream.learner import Finished, Numbers, Run

PERIODS = st.sampled_from([1.0, 2.0, 3.0, inf])
WEIGHTS = st.fixed_dictionaries({"live": st.integers(1, 4), "v": st.integers(0, 4), "w": st.integers(0, 4)})


def mixed(folder: Path, clock: Clock, steps: int, *phases: Phase, batch: int = 3, save: int = 2) -> Run:
    stored = {"v": Finished("v"), "w": Finished("w", 3)}
    return Run(folder, clock, steps, batch, save, phases=phases, stored=stored)


def taken(run: Run) -> list[str]:
    """Which source each row came from, in the order they were served."""
    return [{"s": "live"}.get(str(row["source"]), str(row["source"])) for rows in run.served for row in rows]


@settings(max_examples=25, deadline=None)
@given(PERIODS, WEIGHTS, st.integers(1, 5))
def test_mix_serves_every_source_its_share_of_rows_within_one_though_rows_go_stale(
    period: float, weights: Mapping[str, int], batch: int
) -> None:
    with TemporaryDirectory() as folder:
        run = mixed(Path(folder), Clock(period), 12, Phase(weights), batch=batch)
        run.train()
        rows = taken(run)
        assert len(rows) == 12 * batch
        for n in range(1, len(rows) + 1):
            counts = Counter(rows[:n])
            assert all(abs(counts[s] - n * weight / sum(weights.values())) < 1 for s, weight in weights.items())


def test_mix_online_serves_fresh_rows_of_the_policy_and_every_stored_row_once(tmp_path: Path) -> None:
    run = mixed(tmp_path, Clock(1), 6, Phase({"live": 1, "v": 1}), batch=4)
    run.train()
    versions = [{row["policy_version"] for row in rows if row["source"] == "s"} for rows in run.served]
    assert versions == [{0}, {1}, {2}, {3}, {4}, {5}]
    stored = [row["chosen_ids"] for rows in run.served for row in rows if row["source"] == "v"]
    assert stored == [[n] for n in range(12)]


def test_mix_changes_its_weights_after_optimizer_steps(tmp_path: Path) -> None:
    phases = Phase({"v": 1}, until=2), Phase({"v": 1, "live": 1}, until=4), Phase({"live": 1})
    run = mixed(tmp_path, Clock(2), 6, *phases, batch=4)
    run.train()
    counts = [Counter(str(row["source"]) for row in rows) for rows in run.served]
    assert counts == [{"v": 4}, {"v": 4}, {"v": 2, "s": 2}, {"v": 2, "s": 2}, {"s": 4}, {"s": 4}]


def test_mix_tells_the_share_of_every_source_that_served(tmp_path: Path) -> None:
    run = mixed(tmp_path, Clock(inf), 1, Phase({"live": 1, "v": 3}))
    stream = begun_stream(run.files, run.setting)
    rows = stream.rows()
    for _ in range(8):
        next(rows)
    metrics = stream.metrics()
    stream.close()
    assert {n: v for n, v in metrics.items() if "mix" in n} == {"stream/mix/live": 0.25, "stream/mix/v": 0.75}


@settings(max_examples=40, deadline=None)
@given(PERIODS, WEIGHTS, st.integers(1, 12), st.integers(1, 12), st.integers(1, 4), st.integers(1, 4))
def test_mix_killed_after_any_step_and_resumed_is_the_run_that_was_not(
    period: float, weights: Mapping[str, int], until: int, killed_after: int, batch: int, save: int
) -> None:
    phases = Phase({"w": 1, "live": 2}, until), Phase(weights)
    with TemporaryDirectory() as folder:
        whole, killed, again = (
            mixed(Path(folder) / name, Clock(period), 12, *phases, batch=batch, save=save)
            for name in ("whole", "killed", "killed")
        )
        expected = whole.train()
        killed.train(killed_after=killed_after)
        again.served = killed.served
        assert again.train() == expected
        assert again.served == whole.served
        assert newest_attempt(again.files.recording) == 0
        assert [f.event for f in chain(again.files.recording)] == [f.event for f in chain(whole.files.recording)]
        assert not set(again.source.drawn) & set(killed.source.drawn)


@settings(max_examples=25, deadline=None)
@given(PERIODS, WEIGHTS, st.integers(1, 6), st.booleans())
def test_replay_of_a_mix_serves_the_rows_in_the_order_they_were_served(
    period: float, weights: Mapping[str, int], steps: int, ended: bool
) -> None:
    with TemporaryDirectory() as folder:
        run = mixed(Path(folder), Clock(period), steps, Phase(weights))
        run.train(killed_after=None if ended else steps)
        replayed = ReplayStream(run.files.recording, rows_per_step=3)
        assert list(replayed.rows()) == [row for rows in run.served for row in rows]
        assert replayed.rows_served == 3 * steps


def test_outcomes_of_a_mix_add_up_to_the_rows_recorded_source_by_source(tmp_path: Path) -> None:
    run = mixed(tmp_path, Clock(2), 9, Phase({"live": 1, "v": 1, "w": 1}))
    run.train()
    fates: dict[str, Counter[str]] = {name: Counter() for name in ("live", "v", "w")}
    for event, told in fated_rows(run.files.recording):
        fates[event.source].update(told)
    assert {name: counts["served"] for name, counts in fates.items()} == {"live": 9, "v": 9, "w": 9}
    assert fates["v"] == {"served": 9, "not_served": 3}
    assert fates["live"]["stale_at_sync"] > 0
    recorded = sum(f.event.batch.rows.num_rows for f in chain(run.files.recording) if isinstance(f.event, NewRows))
    assert sum(outcomes(run.files.recording).values()) == recorded


def test_weight_of_a_source_that_ends_goes_to_the_others(tmp_path: Path) -> None:
    run = mixed(tmp_path, Clock(inf), 30, Phase({"live": 1, "v": 1}))
    run.source = Numbers(ends_at=8)
    run.train()
    rows = taken(run)
    events = [f.event for f in chain(run.files.recording)]
    lives = sum(e.batch.rows.num_rows for e in events if isinstance(e, NewRows) and e.source == "live")
    assert Counter(rows) == {"live": lives, "v": 90 - lives}
    assert set(rows[2 * lives :]) == {"v"}


def test_mix_whose_live_source_gives_nothing_is_told(tmp_path: Path) -> None:
    run = mixed(tmp_path, Clock(1), 3, Phase({"live": 1, "v": 1}))
    run.source = Numbers(empty=True)
    with pytest.raises(RecipeError, match="50 micro-batches in a row gave no row to train on"):
        run.train()


def test_order_of_a_mix_is_recorded_and_that_of_a_single_source_is_not(tmp_path: Path) -> None:
    alone, several = Run(tmp_path / "a", Clock(inf), 3), mixed(tmp_path / "b", Clock(inf), 3, Phase({"live": 1}))
    assert alone.train() == several.train()
    turns = [[f.event for f in chain(r.files.recording) if isinstance(f.event, Serve)] for r in (alone, several)]
    assert [len(events) for events in turns] == [0, 9]
