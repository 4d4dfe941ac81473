"""Ranks that are threads, a source whose rows say what they were made from, and a training that only counts."""

import json
import pickle
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from threading import Barrier
from typing import TypeVar
from zlib import crc32

import pyarrow as pa

from prefkit.sampling.weights import Logprobed
from prefkit.stream.clock import Clock
from prefkit.stream.events import Event, NewRows
from prefkit.stream.mixing import Phase
from prefkit.stream.opening import RunFiles, Setting, begun_stream, resumed_stream
from prefkit.stream.protocol import MicroBatch, Weights
from prefkit.stream.ranks import Alone, Ranks, Share
from prefkit.stream.recording import chain
from prefkit.stream.sources import Sources
from prefkit.stream.stream import PreferenceStream

T = TypeVar("T")
RUN = "r"


class ThreadRank:
    """One of several threads that exchange values, as processes would: nothing is shared."""

    def __init__(self, rank: int, size: int, meeting: Barrier, table: list[bytes]) -> None:
        self.rank, self.size = rank, size
        self._meeting, self._table = meeting, table

    def all_gather(self, value: object) -> list[object]:
        self._table[self.rank] = pickle.dumps(value)
        self._meeting.wait(30)
        values = [pickle.loads(given) for given in self._table]
        self._meeting.wait(30)
        return values

    def broadcast(self, value: object) -> object:
        return self.all_gather(value)[0]


def on_ranks(size: int, work: Callable[[Ranks], T]) -> list[T | Exception]:
    """What the work gives, or raises, on each of so many ranks. Raises when one waits for another in vain."""
    meeting, table = Barrier(size), [b""] * size
    with ThreadPoolExecutor(size) as threads:
        futures: list[Future[T]] = [
            threads.submit(work, ThreadRank(rank, size, meeting, table)) for rank in range(size)
        ]
    return [future.result() if (error := future.exception()) is None else _ended(error) for future in futures]


def _ended(error: BaseException) -> Exception:
    assert isinstance(error, Exception), error
    assert not isinstance(error, TimeoutError)
    return error


@dataclass(frozen=True)
class Step:
    """The weights after a step of a training, which `salt` makes another one."""

    step: int
    salt: str = ""

    def digest(self) -> str:
        return f"{self.step}{self.salt}"

    def tensors(self) -> Iterable[tuple[str, object]]:
        return ()

    def save(self, folder: Path) -> None:
        (folder / "step").write_text(json.dumps([self.step, self.salt]))

    def probe(self) -> Logprobed:
        return Logprobed([1], [1], [0.0])


def opened_step(folder: Path) -> Weights:
    step, salt = json.loads((folder / "step").read_text())
    return Step(step, salt)


@dataclass
class TellingSource:
    """Micro-batches that the cursor, the weights of sampler and reference and the attempt decide, and nothing else."""

    prompts: Sequence[int]
    """In turn, how many prompts a micro-batch takes."""
    rows: Sequence[int]
    """Of these, by chance, how many rows it has."""
    ends_at: int | None = None
    sampler: str = "0"
    reference: str = "0"
    attempt: int = 0
    policy_version: int = 0
    drawn: list[int] = field(default_factory=list[int])

    def begin_attempt(self, attempt: int) -> None:
        self.attempt = attempt

    def prompts_at(self, cursor: int) -> int:
        whole = self.prompts[cursor % len(self.prompts)]
        return whole if self.ends_at is None else max(0, min(whole, self.ends_at - cursor))

    def micro_batch(self, cursor: int) -> MicroBatch | None:
        prompts = self.prompts_at(cursor)
        if not prompts:
            return None
        self.drawn.append(cursor)
        count = self.rows[crc32(f"{cursor} {self.policy_version}".encode()) % len(self.rows)]
        name = f"prompt {cursor} sampled by {self.sampler} in {self.attempt} scored by {self.reference}"
        rows = {"row": [f"{name}: {n}" for n in range(count)], "policy_version": [self.policy_version] * count}
        table = pa.table(rows, pa.schema([("row", pa.string()), ("policy_version", pa.int64())]))
        return MicroBatch(cursor, prompts, self.policy_version, table, outcomes={"select": {"selected": count}})

    def sync(self, weights: Weights, policy_version: int) -> None:
        self.sampler, self.policy_version = weights.digest(), policy_version

    def reset_reference(self, weights: Weights, policy_version: int) -> None:
        self.reference = weights.digest()


class FinishedSource(TellingSource):
    """Micro-batches that the cursor alone decides."""

    def sync(self, weights: Weights, policy_version: int) -> None: ...

    def reset_reference(self, weights: Weights, policy_version: int) -> None: ...

    def micro_batch(self, cursor: int) -> MicroBatch | None:
        batch = super().micro_batch(cursor)
        assert batch is not None
        table = pa.table({"row": batch.rows["row"], "policy_version": pa.nulls(batch.rows.num_rows, pa.int64())})
        return replace(batch, rows=table)


@dataclass(frozen=True)
class Training:
    """A training of `steps` steps; every rank reads `per_step` times `batch` rows for each."""

    source: Callable[[], TellingSource]
    clock: Clock
    folder: Path
    steps: int
    batch: int = 1
    per_step: int = 1
    save_every: int = 2
    rows: int | None = None
    salt: str = ""
    mix: Sequence[Phase] = ()
    """Of `live`, which is `source`, and `stored`."""

    def of_one(self, ranks: int, folder: Path) -> "Training":
        """The training of one process that reads what so many ranks do."""
        return replace(self, batch=self.batch * ranks, folder=folder)

    def run(self, ranks: Ranks, until: int | None = None) -> list[list[str]]:
        """The rows that this rank was served, by step. Stops before the end of the step `until`, as a kill would."""
        return self._trained(begun_stream(RunFiles(self.folder, RUN), self._setting(ranks)), 0, until)

    def resume(self, ranks: Ranks, step: int) -> list[list[str]]:
        """The same from the checkpoint of a step on."""
        setting = self._setting(ranks)
        return self._trained(resumed_stream(RunFiles(self.folder, RUN), step, setting, opened_step), step, None)

    def _setting(self, ranks: Ranks) -> Setting:
        return Setting(self._sources(), self.clock, self._saves_at, Share(ranks, self.batch, self.rows))

    def _sources(self) -> Sources:
        if not self.mix:
            return Sources.only(self.source())
        return Sources({"live": self.source(), "stored": FinishedSource((3, 2), (3,))}, self.mix)

    def _saves_at(self, step: int) -> bool:
        return step % self.save_every == 0

    def _trained(self, stream: PreferenceStream, start: int, until: int | None) -> list[list[str]]:
        served: list[list[str]] = []
        rows = stream.rows()
        try:
            stream.begin(start, Step(start))
            for step in range(start + 1, self.steps + 1):
                served.append([str(row["row"]) for row in islice(rows, self.batch * self.per_step)])
                if step == until:
                    return served
                weights = Step(step, self.salt)
                stream.step_done(step, weights)
                if self._saves_at(step):
                    stream.save(step, weights)
                    (self.folder / f"checkpoint-{step}").mkdir(exist_ok=True)
                    stream.saved(step)
            stream.end()
        finally:
            stream.close()
        return served


def together(training: Training, by_rank: Sequence[list[list[str]] | Exception]) -> list[list[str]]:
    """By step, the rows that the ranks were served, chunk by chunk in the order of the ranks."""
    served: list[list[list[str]]] = []
    for rows in by_rank:
        assert isinstance(rows, list), rows
        served.append(rows)
    return [
        [row for at in range(0, len(step[0]), training.batch) for own in step for row in own[at : at + training.batch]]
        for step in zip(*served, strict=True)
    ]


def recorded(folder: Path) -> list[Event]:
    """What a run recorded, without how long it took."""
    events = [frame.event for frame in chain(folder / "recording")]
    return [replace(e, batch=replace(e.batch, seconds={})) if isinstance(e, NewRows) else e for e in events]


ALONE = Alone()
