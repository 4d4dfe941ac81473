"""Small legal objects for tests of the stream."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from prefkit.stream.events import Base, Event, NewRows, Start
from prefkit.stream.protocol import MicroBatch
from prefkit.stream.recording import Recorder


def rows(numbers: Sequence[int], policy_version: int | None = 0) -> pa.Table:
    """Rows of a trainer that carry their number twice: as a score and as tokens."""
    return pa.table(
        {
            "chosen_ids": pa.array([[n, n + 1] for n in numbers], pa.list_(pa.int32())),
            "chosen_score": pa.array([float(n) for n in numbers], pa.float64()),
            "source": pa.array(["odd" if n % 2 else "even" for n in numbers], pa.string()),
            "policy_version": pa.array([policy_version] * len(numbers), pa.int64()),
        }
    )


def new_rows(first: int, count: int, cursor: int = 0, policy_version: int = 0) -> NewRows:
    """A micro-batch of `count` rows with facts, outcomes and times."""
    batch = MicroBatch(
        cursor=cursor,
        prompts=count,
        policy_version=policy_version,
        rows=rows(range(first, first + count), policy_version),
        facts={"scores": pa.table({"id": [b"x" * 16], "score": [0.5]})},
        outcomes={"sample": {"sampled": 2 * count}, "select": {"selected": count}},
        seconds={"sample": 0.25},
        rewards={"reward": (1.5, 2 * count)},
    )
    return NewRows(first, batch)


def record(folder: Path, events: Sequence[Event], attempt: int = 0, base: Base | None = None) -> Path:
    """Records an attempt of run `r` in `folder` and returns its file."""
    with Recorder.begin(folder, Start("r", attempt, base)) as recorder:
        for event in events:
            recorder.append(event)
    return folder / f"{attempt}-0.arrows"


def numbers(table: pa.Table) -> list[int]:
    """The numbers of rows made by `rows`."""
    return [ids[0] for ids in table["chosen_ids"].to_pylist()]
