"""What a scorer is: completions in, one score or one failure out for every (completion, aspect, repeat).

A scorer declares what it reads besides the prompt and the completion (`reads`, names of task columns); those values are
hashed into the row's key, so correcting a gold answer computes its scores anew and nothing else. A failed call is a
`ScoreFailure` row, never an exception, never a low score.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from prefkit.sampling.protocol import Message


class ScoreFailureKind(StrEnum):
    """Why a call gave no score."""

    UNDECIDED = "undecided"
    """The verifier could neither confirm nor refute the answer within its limits. Final."""
    UNPARSABLE = "unparsable"
    """The scorer's reply has no score in it, or one that is not a finite number. Final."""
    REFUSED = "refused"
    """The judge refused. Final."""
    TOO_LONG = "too_long"
    """Prompt and completion do not fit the scorer's context. Final."""
    CUT_OFF = "cut_off"
    """The judge's reply reached its token limit before it ended. Final."""
    MISSING_INPUT = "missing_input"
    """The task lacks a value the scorer reads (no gold answer). Final; another value is another key."""
    OVER_BUDGET = "over_budget"
    """The budget does not cover the call, so it was not made. Transient: a build with a larger budget makes it."""
    TIMEOUT = "timeout"
    """No answer in time. Transient."""
    CONNECTION = "connection"
    """The judge could not be reached or answered with a server error. Transient."""
    WORKER_KILLED = "worker_killed"
    """The worker process died for a reason other than its limits. Transient."""

    @property
    def transient(self) -> bool:
        """Whether the next build tries again."""
        return self in (self.OVER_BUDGET, self.TIMEOUT, self.CONNECTION, self.WORKER_KILLED)


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """One planned call: judge this completion on this aspect. `inputs` holds what the scorer `reads`."""

    completion_id: bytes
    aspect: str
    repeat: int
    prompt: Sequence[Message]
    completion: str
    inputs: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Score:
    """A finished call. Higher is better; any finite number."""

    completion_id: bytes
    aspect: str
    repeat: int
    score: float
    rationale: str | None = None
    raw: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class ScoreFailure:
    """A call that gave no score; `raw` keeps the reply as it came, `detail` says what was wrong with it."""

    completion_id: bytes
    aspect: str
    repeat: int
    kind: ScoreFailureKind
    detail: str | None = None
    raw: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = None


class Scorer(Protocol):
    """Anything that labels completions: a verifier, a judge, a reward model."""

    @property
    def deterministic(self) -> bool:
        """Whether a request gives the same score every time, on any machine under any load."""
        ...

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[Sequence[Score | ScoreFailure]]:
        """Yields finished calls in batches, in any order, each request exactly once."""
        ...


@dataclass(frozen=True, slots=True)
class ComparisonRequest:
    """One planned call: which of two completions is better on this aspect, shown in this order.

    `completion_a` is the smaller id; `order` is `ab` when a is shown first, else `ba`.
    """

    completion_a: bytes
    completion_b: bytes
    aspect: str
    order: str
    repeat: int
    prompt: Sequence[Message]
    text_a: str
    text_b: str
    inputs: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A finished call. `preference` in [0, 1] is for a, whichever was shown first; 0.5 is a tie."""

    completion_a: bytes
    completion_b: bytes
    aspect: str
    order: str
    repeat: int
    preference: float
    rationale: str | None = None
    raw: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class ComparisonFailure:
    """A call that gave no preference."""

    completion_a: bytes
    completion_b: bytes
    aspect: str
    order: str
    repeat: int
    kind: ScoreFailureKind
    detail: str | None = None
    raw: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = None


class Comparer(Protocol):
    """Anything that compares completions: a pairwise judge."""

    @property
    def deterministic(self) -> bool:
        """Whether a request gives the same preference every time."""
        ...

    def compare(self, requests: Sequence[ComparisonRequest]) -> Iterator[Sequence[Comparison | ComparisonFailure]]:
        """Yields finished calls in batches, in any order, each request exactly once."""
        ...
