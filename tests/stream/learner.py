"""A trainer and a source without a model: rows are numbers, weights are what was trained on."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from pathlib import Path

import pyarrow as pa

from prefkit.stream.clock import Clock
from prefkit.stream.mixing import Phase
from prefkit.stream.opening import RunFiles, Setting, begun_stream, can_resume, resumed_stream
from prefkit.stream.protocol import Logprobed, MicroBatch, Row, TrainingStream, Weights
from prefkit.stream.sources import Sources
from prefkit.stream.state import complete_steps


@dataclass
class Learned:
    """Weights that are a hash of every row that was trained on, in order."""

    value: bytes = b"start"

    def digest(self) -> str:
        return self.value.hex()

    def tensors(self) -> Iterator[tuple[str, object]]:
        yield "value", self.value

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "value").write_bytes(self.value)

    def probe(self) -> Logprobed:
        return Logprobed([1], [2], [-0.5])

    def learn(self, rows: Sequence[Row]) -> None:
        self.value = blake2b(self.value + repr([row["chosen_ids"] for row in rows]).encode(), digest_size=8).digest()


def saved(folder: Path) -> Learned:
    """The weights that a state holds."""
    return Learned((folder / "value").read_bytes())


@dataclass
class Numbers:
    """A source: 0 to 5 rows per micro-batch, which depend on the cursor and on the weights that sample."""

    prompts: int = 4
    weights: bytes = b"start"
    policy_version: int = 0
    drawn: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    attempts: list[int] = field(default_factory=list[int])
    resets: list[int] = field(default_factory=list[int])
    ends_at: int | None = None
    empty: bool = False

    def begin_attempt(self, attempt: int) -> None:
        self.attempts.append(attempt)

    def prompts_at(self, cursor: int) -> int:
        return self.prompts

    def micro_batch(self, cursor: int) -> MicroBatch | None:
        if self.ends_at is not None and cursor >= self.ends_at:
            return None
        self.drawn.append((cursor, self.policy_version))
        key = blake2b(self.weights + cursor.to_bytes(8, "little"), digest_size=8).digest()
        count = 0 if self.empty else key[0] % 6
        rows = pa.table(
            {
                "chosen_ids": pa.array([[key[1], place] for place in range(count)], pa.list_(pa.int32())),
                "chosen_score": pa.array([1.0] * count, pa.float64()),
                "source": pa.array(["s"] * count, pa.string()),
                "policy_version": pa.array([self.policy_version] * count, pa.int64()),
            }
        )
        return MicroBatch(cursor, self.prompts, self.policy_version, rows, outcomes={"select": {"selected": count}})

    def sync(self, weights: Weights, policy_version: int) -> None:
        self.weights, self.policy_version = bytes.fromhex(weights.digest()), policy_version

    def reset_reference(self, weights: Weights, policy_version: int) -> None:
        self.resets.append(policy_version)


@dataclass
class Finished:
    """A source of finished rows, so many a micro-batch, which no weights decide."""

    name: str
    rows: int = 4
    policy_version: int = 0

    def begin_attempt(self, attempt: int) -> None: ...

    def prompts_at(self, cursor: int) -> int:
        return self.rows

    def micro_batch(self, cursor: int) -> MicroBatch:
        rows = pa.table(
            {
                "chosen_ids": pa.array([[cursor + place] for place in range(self.rows)], pa.list_(pa.int32())),
                "chosen_score": pa.array([2.0] * self.rows, pa.float64()),
                "source": pa.array([self.name] * self.rows, pa.string()),
                "policy_version": pa.array([None] * self.rows, pa.int64()),
            }
        )
        return MicroBatch(cursor, self.rows, 0, rows)

    def sync(self, weights: Weights, policy_version: int) -> None: ...

    def reset_reference(self, weights: Weights, policy_version: int) -> None: ...


@dataclass
class Run:
    """A training of `steps` steps of `batch` rows with a checkpoint every `save` steps, in a folder."""

    folder: Path
    clock: Clock
    steps: int
    batch: int = 3
    save: int = 2
    source: Numbers = field(default_factory=Numbers)
    phases: Sequence[Phase] = ()
    """Of a mix of `live`, which is `source`, and of `stored`."""
    stored: Mapping[str, Finished] = field(default_factory=dict[str, Finished])
    served: list[list[Row]] = field(default_factory=list[list[Row]])

    @property
    def files(self) -> RunFiles:
        return RunFiles(self.folder, "r")

    @property
    def setting(self) -> Setting:
        sources = Sources({"live": self.source, **self.stored}, self.phases)
        return Setting(sources if self.phases else Sources.only(self.source), self.clock, self.saves_at)

    def saves_at(self, step: int) -> bool:
        return step % self.save == 0

    def train(self, killed_after: int | None = None) -> Learned:
        """From the newest checkpoint, or the start; killed after a step, it just stops."""
        known = [step for step in complete_steps(self.files.states) if can_resume(self.files, step)]
        start = max((step for step in known if (self.folder / f"checkpoint-{step}").exists()), default=0)
        if start:
            learned = saved(self.folder / f"checkpoint-{start}")
            stream = resumed_stream(self.files, start, self.setting, saved)
        else:
            learned = Learned()
            stream = begun_stream(self.files, self.setting)
        with closing(stream):
            self._steps(stream, learned, start, killed_after)
            if killed_after is None:
                stream.end()
        return learned

    def _steps(self, stream: TrainingStream, learned: Learned, start: int, killed_after: int | None) -> None:
        stream.begin(start, learned)
        rows = stream.rows()
        for step in range(start + 1, self.steps + 1):
            batch = list(islice(rows, self.batch))
            if not batch:
                return
            self.served[step - 1 :] = [batch]
            learned.learn(batch)
            stream.step_done(step, learned)
            if self.saves_at(step):
                stream.save(step, learned)
                learned.save(self.folder / f"checkpoint-{step}")
                stream.saved(step)
            if step == killed_after:
                return
