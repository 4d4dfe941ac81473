import shutil
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.stream.clock import Clock
from prefkit.stream.opening import begun_stream
from prefkit.stream.protocol import MicroBatch
from prefkit.stream.stream import PreferenceStream
from prefkit.stream.timing import WallTime, time_shares
from tests.stream.learner import Learned, Numbers, Run

SECONDS = st.floats(0, 1e6)


def test_shares_by_hand() -> None:
    seconds = {"sample": 4.0, "label": 2.0, "draw": 7.0, "sync": 1.0, "train": 2.0}
    shares = time_shares({"loss": 0.5, **{f"stream/seconds/{what}": value for what, value in seconds.items()}})
    assert shares == {
        "stream/time/sample": 0.4,
        "stream/time/label": 0.2,
        "stream/time/sync": 0.1,
        "stream/time/train": 0.2,
        "stream/time/other": 0.1,
    }


@given(st.dictionaries(st.sampled_from(["sample", "label"]), SECONDS), SECONDS, SECONDS, st.floats(1e-3, 1e6))
def test_shares_add_up_to_1(stages: dict[str, float], draw: float, sync: float, train: float) -> None:
    seconds = {**stages, "draw": draw, "sync": sync, "train": train}
    shares = time_shares({f"stream/seconds/{what}": value for what, value in seconds.items()})
    assert sum(shares.values()) == pytest.approx(1)
    assert all(share >= 0 for share in shares.values())


def test_no_seconds_no_shares() -> None:
    assert time_shares({"stream/rows": 4.0}) == {}


def test_wall_time_that_nothing_claims_is_the_trainers() -> None:
    wall = WallTime()
    with wall.during("draw"):
        time.sleep(0.02)
    time.sleep(0.01)
    spent = wall.take()
    assert spent["draw"] >= 0.02
    assert spent["train"] >= 0.01
    assert spent["sync"] == 0
    assert wall.take()["draw"] == 0


class Timed(Numbers):
    """A source that says that its draws took 100 seconds each."""

    def micro_batch(self, cursor: int) -> MicroBatch | None:
        batch = super().micro_batch(cursor)
        return batch and replace(batch, seconds={"sample": 100.0})


def stepped(stream: PreferenceStream, step: int) -> Mapping[str, float]:
    """Reads a row, and says what the stream tells of the step."""
    next(stream.rows())
    stream.step_done(step, Learned())
    return stream.metrics()


def test_stream_tells_where_the_time_of_every_step_went(tmp_path: Path) -> None:
    run = Run(tmp_path, Clock(sync_period=inf), steps=2, source=Timed())
    with closing(begun_stream(run.files, run.setting)) as stream:
        stream.begin(0, Learned())
        told = [stepped(stream, step) for step in (1, 2)]
    drawn = len(run.source.drawn)
    assert told[0]["stream/seconds/sample"] == 100 * drawn
    assert told[1]["stream/seconds/sample"] == 0  # rows of the first step's draws were waiting
    assert all({f"stream/seconds/{what}" for what in ("draw", "sync", "train")} <= step.keys() for step in told)


def test_draws_that_are_taken_from_the_recording_cost_no_time(tmp_path: Path) -> None:
    run = Run(tmp_path, Clock(sync_period=inf), steps=3, save=1, source=Timed())
    run.train(killed_after=1)
    again = Run(tmp_path, Clock(sync_period=inf), steps=3, source=Timed())
    shutil.rmtree(tmp_path / "checkpoint-1")  # so that it starts over, and plays what was recorded
    with closing(begun_stream(again.files, again.setting)) as stream:
        stream.begin(0, Learned())
        told = stepped(stream, 1)
    assert not again.source.drawn
    assert told["stream/rows"] == 1
    assert "stream/seconds/sample" not in told
