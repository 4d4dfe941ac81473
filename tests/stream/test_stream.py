from itertools import islice
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.errors import DamageError, RecipeError
from prefkit.stream.clock import Clock
from prefkit.stream.events import Drop, NewRows, Reset, Start, Sync
from prefkit.stream.opening import begun_stream, can_resume
from prefkit.stream.recording import chain, newest_attempt, superseded
from prefkit.stream.replay import outcomes
from prefkit.stream.replayed import ReplayStream, Shuffle
from tests.stream.learner import Learned, Numbers, Run

PERIODS = st.sampled_from([1.0, 2.0, 3.0, 5.0, inf, None])


def versions(run: Run) -> list[set[object]]:
    """Per step, the policy versions of its rows."""
    return [{row["policy_version"] for row in rows} for rows in run.served]


def test_stream_online_serves_rows_of_the_newest_weights_only(tmp_path: Path) -> None:
    run = Run(tmp_path, Clock(1), steps=5)
    run.train()
    assert versions(run) == [{0}, {1}, {2}, {3}, {4}]


def test_stream_semi_online_lags_by_less_than_its_period(tmp_path: Path) -> None:
    run = Run(tmp_path, Clock(3), steps=7)
    run.train()
    assert versions(run) == [{0}, {0}, {0}, {3}, {3}, {3}, {6}]


def test_stream_that_never_syncs_samples_from_the_start_weights(tmp_path: Path) -> None:
    run = Run(tmp_path, Clock(inf), steps=6)
    run.train()
    assert versions(run) == [{0}] * 6
    assert [f.event for f in chain(run.files.recording) if isinstance(f.event, Sync)] == [Sync(0, 0, "7374617274")]


def test_stream_over_finished_data_never_syncs(tmp_path: Path) -> None:
    run = Run(tmp_path, Clock(None), steps=4)
    run.train()
    assert not [f for f in chain(run.files.recording) if isinstance(f.event, Sync)]


def test_stream_with_a_longer_staleness_keeps_rows_over_a_sync(tmp_path: Path) -> None:
    strict, patient = Run(tmp_path / "strict", Clock(1), 30), Run(tmp_path / "patient", Clock(1, None, 2), 30)
    strict.train()
    patient.train()
    lags = {step - version for step, seen in enumerate(versions(patient)) for version in seen}  # type: ignore[operator]
    assert max(lags) in (1, 2)
    assert len(patient.source.drawn) < len(strict.source.drawn)


def test_stream_drops_what_grew_too_stale_between_syncs(tmp_path: Path) -> None:
    run = Run(tmp_path, Clock(4, None, 3), steps=40, batch=1)
    run.train()
    lags = {step - version for step, seen in enumerate(versions(run)) for version in seen}  # type: ignore[operator]
    assert lags == {0, 1, 2, 3}
    assert not [f for f in chain(run.files.recording) if isinstance(f.event, Drop)]


def test_stream_records_a_micro_batch_before_it_serves_its_first_row(tmp_path: Path) -> None:
    run = Run(tmp_path, Clock(1), steps=1)
    stream = begun_stream(run.files, run.setting)
    stream.begin(0, Learned())
    row = next(stream.rows())
    stream.close()
    recorded = [f.event.batch.rows.to_pylist() for f in chain(run.files.recording) if isinstance(f.event, NewRows)]
    assert row in [row for rows in recorded for row in rows]


def test_stream_taken_up_by_a_second_iterator_goes_on(tmp_path: Path) -> None:
    run, other = Run(tmp_path / "a", Clock(inf), 1), Run(tmp_path / "b", Clock(inf), 1)
    stream, whole = (begun_stream(r.files, r.setting) for r in (run, other))
    in_parts, at_once = [*islice(stream.rows(), 4), *islice(stream.rows(), 5)], list(islice(whole.rows(), 9))
    stream.close()
    whole.close()
    assert in_parts == at_once


def test_stream_of_a_source_that_ends_gives_its_last_rows(tmp_path: Path) -> None:
    run = Run(tmp_path, Clock(inf), steps=1000, source=Numbers(ends_at=40))
    run.train()
    recorded = sum(f.event.batch.rows.num_rows for f in chain(run.files.recording) if isinstance(f.event, NewRows))
    assert sum(map(len, run.served)) == recorded > 0


def test_stream_without_a_row_for_long_is_told(tmp_path: Path) -> None:
    run = Run(tmp_path, Clock(1), steps=3, source=Numbers(empty=True))
    with pytest.raises(RecipeError, match="50 micro-batches in a row gave no row to train on"):
        run.train()


def test_stream_resets_the_reference_on_its_own_period(tmp_path: Path) -> None:
    run = Run(tmp_path, Clock(1, 3), steps=7)
    run.train()
    assert run.source.resets == [3, 6]
    assert [f.event.step for f in chain(run.files.recording) if isinstance(f.event, Reset)] == [3, 6]


def test_stream_outcomes_add_up_to_the_rows_recorded(tmp_path: Path) -> None:
    run = Run(tmp_path, Clock(2), steps=9)
    run.train()
    counts = outcomes(run.files.recording)
    recorded = sum(f.event.batch.rows.num_rows for f in chain(run.files.recording) if isinstance(f.event, NewRows))
    assert counts["served"] == 27
    assert sum(counts.values()) == recorded


@settings(max_examples=60, deadline=None)
@given(PERIODS, st.integers(1, 12), st.integers(1, 4), st.integers(1, 4), st.sampled_from([None, 2, 5]))
def test_stream_killed_after_any_step_and_resumed_is_the_run_that_was_not(
    period: float | None, killed_after: int, batch: int, save: int, reset: int | None
) -> None:
    with TemporaryDirectory() as folder:
        whole, killed = (
            Run(Path(folder) / name, Clock(period, reset), 12, batch, save) for name in ("whole", "killed")
        )
        expected = whole.train()
        killed.train(killed_after=killed_after)
        again = Run(killed.folder, killed.clock, 12, batch, save, served=killed.served)
        assert again.train() == expected
        assert again.served == whole.served
        assert newest_attempt(again.files.recording) == 0
        assert [f.event for f in chain(again.files.recording)] == [f.event for f in chain(whole.files.recording)]


def test_stream_resumed_takes_recorded_micro_batches_and_draws_none_again(tmp_path: Path) -> None:
    run = Run(tmp_path, Clock(2), steps=9, save=4)
    run.train(killed_after=7)
    again = Run(tmp_path, Clock(2), 9, save=4)
    again.train()
    assert not set(again.source.drawn) & set(run.source.drawn)


def test_stream_that_goes_on_differently_begins_a_new_attempt(tmp_path: Path) -> None:
    run = Run(tmp_path, Clock(2), steps=12, save=5)
    run.train(killed_after=9)
    Learned(b"rounded otherwise").save(tmp_path / "checkpoint-5")  # the sync after step 6 now sends other weights
    again = Run(tmp_path, Clock(2), 12, save=5, served=run.served)
    again.train()
    assert newest_attempt(again.files.recording) == 1
    assert again.source.attempts[-1] == 1
    assert sum(isinstance(f.event, NewRows) for f in superseded(again.files.recording)) > 0
    assert list(ReplayStream(again.files.recording, 3).rows()) == [row for rows in again.served for row in rows]


def test_stream_resumed_with_a_checkpoint_that_is_not_its_own_is_refused(tmp_path: Path) -> None:
    Run(tmp_path, Clock(2), steps=8, save=4).train(killed_after=5)
    Learned(b"of another run").save(tmp_path / "checkpoint-4")
    with pytest.raises(DamageError, match="checkpoint-4 has other weights than the recording says"):
        Run(tmp_path, Clock(2), 8, save=4).train()


def test_replay_serves_the_rows_of_the_run_in_order(tmp_path: Path) -> None:
    run = Run(tmp_path, Clock(2), steps=9)
    run.train()
    replayed = ReplayStream(run.files.recording, rows_per_step=3)
    assert list(replayed.rows()) == [row for rows in run.served for row in rows]
    assert replayed.rows_served == 27


def test_replay_shuffled_in_windows_keeps_every_row_within_its_window(tmp_path: Path) -> None:
    run = Run(tmp_path, Clock(2), steps=9)
    run.train()
    shuffled = list(ReplayStream(run.files.recording, 3, Shuffle(window=3, seed=1)).rows())
    key = [str(row) for rows in run.served for row in rows]
    assert [str(row) for row in shuffled] != key
    for start in range(0, 27, 9):
        assert sorted(map(str, shuffled[start : start + 9])) == sorted(key[start : start + 9])


def test_state_without_its_recording_cannot_be_resumed(tmp_path: Path) -> None:
    run = Run(tmp_path, Clock(2), steps=4)
    run.train()
    assert can_resume(run.files, 4)
    (run.files.recording / "0-0.arrows").write_bytes(b"")
    assert not can_resume(run.files, 4)


def test_recording_starts_with_its_run(tmp_path: Path) -> None:
    run = Run(tmp_path, Clock(2), steps=1)
    run.train()
    assert next(chain(run.files.recording)).event == Start("r", 0)
