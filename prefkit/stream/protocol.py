"""What passes between a stream, its sources and a trainer.

A source gives micro-batches: the rows of a few prompts, a pure function of (run seed, prompt cursor, policy version).
The stream records them, serves their rows and owns the clock. A trainer reads rows and reports every optimizer step
together with its weights; it decides nothing. Weights stay opaque here: only engines and trainers look into them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import pyarrow as pa

from prefkit.sampling.weights import Logprobed as Logprobed
from prefkit.sampling.weights import Weights as Weights

Row: TypeAlias = Mapping[str, object]
"""One row as a trainer reads it: token ids and sums of log-probs by column name."""


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """The rows of a few prompts, with everything they were made of."""

    cursor: int
    """Prompts of the run that came before its first one."""
    prompts: int
    """How many prompts it took."""
    policy_version: int
    """The optimizer step whose weights sampled it; 0 for rows of a version."""
    rows: pa.Table
    """What a trainer may see, one row each, in order; has `policy_version` (null: not sampled by this run)."""
    facts: Mapping[str, pa.Table] = field(default_factory=dict[str, pa.Table])
    """By fact table, every completion, score and comparison it drew."""
    outcomes: Mapping[str, Mapping[str, int]] = field(default_factory=dict[str, Mapping[str, int]])
    """By stage of the ledger, what became of its keys."""
    seconds: Mapping[str, float] = field(default_factory=dict[str, float])
    """By stage, how long it took."""
    rewards: Mapping[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    """Over all labelled completions, selected or not: by name of a reward, their sum and how many there are."""


class Source(Protocol):
    """Where micro-batches come from."""

    @property
    def policy_version(self) -> int:
        """The optimizer step whose weights it samples with; 0 for a version."""
        ...

    def begin_attempt(self, attempt: int) -> None:
        """What is drawn from now on belongs to this attempt of the run."""
        ...

    def prompts_at(self, cursor: int) -> int:
        """How many prompts the micro-batch from this one on takes; 0 when the source has ended."""
        ...

    def micro_batch(self, cursor: int) -> MicroBatch | None:
        """The next one from this prompt on, or None when the source has ended."""
        ...

    def sync(self, weights: Weights, policy_version: int) -> None:
        """From now on samples from these weights, where it samples. Raises SyncError when the sampler does not say what
        they say.
        """
        ...

    def reset_reference(self, weights: Weights, policy_version: int) -> None:
        """From now on the reference model has these weights, of this step."""
        ...


class TrainingStream(Protocol):
    """What a trainer sees of a stream, on every rank."""

    def rows(self) -> Iterator[Row]:
        """The rows this rank trains on, in order; ends when a finite stream has. A second iterator goes on where the
        first stopped.
        """
        ...

    def begin(self, step: int, weights: Weights) -> None:
        """Training starts, or goes on, after this optimizer step."""
        ...

    def step_done(self, step: int, weights: Weights) -> None:
        """An optimizer step is over: the clock may sync or reset."""
        ...

    def metrics(self) -> Mapping[str, float]:
        """What was done since the last call, as numbers that a logger takes."""
        ...

    def save(self, step: int, weights: Weights) -> None:
        """Writes the state that goes with the trainer's checkpoint of this step, durably, before that is written."""
        ...

    def saved(self, step: int) -> None:
        """The trainer's checkpoint of this step is complete: states that no checkpoint needs may go."""
        ...
