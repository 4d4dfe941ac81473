"""A call to a judge and what came of it, apart from how it travels.

A judge turns requests into calls and replies into scores; a transport makes the calls. A call that fails is a
`CallFailure` beside its siblings, never an exception that loses them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from prefkit.identity import Json
from prefkit.sampling.protocol import Message
from prefkit.scoring.protocol import ScoreFailureKind


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a chat endpoint. `id` is unique among the calls of a build and the same in every attempt."""

    id: str
    messages: Sequence[Message]
    max_tokens: int
    schema: Mapping[str, Json] | None = None
    """JSON schema the reply shall obey, for servers that constrain replies."""
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Spent:
    """What a call was billed: `usage` as the endpoint reports it, or what had been reserved where it reports none."""

    input_tokens: int
    output_tokens: int
    cost: float | None
    """US dollars; None without a price."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished call: the text as it came, possibly empty, possibly cut off (`finish_reason` is `length`)."""

    text: str
    finish_reason: str | None
    refusal: str | None
    """What the endpoint says in its own field for refusals."""
    spent: Spent


@dataclass(frozen=True, slots=True)
class CallFailure:
    """A call that gave no reply."""

    kind: ScoreFailureKind
    detail: str
    raw: str | None = None
    """What the server sent instead, if anything."""
    spent: Spent | None = None


class Transport(Protocol):
    """Makes calls. The one place that knows about the network, retries, concurrency and money."""

    def send(self, calls: Sequence[Call]) -> Iterator[Sequence[tuple[Call, Reply | CallFailure]]]:
        """Yields finished calls as they finish, in batches, each call exactly once.

        What the budget does not cover is not sent: it comes back as the failure `over_budget`.
        """
        ...
