"""What a sampler is: prompts in, completions out, each with its token ids and log-probs.

A request is one draw: a prompt and an index. Its noise is keyed by `completion_id`, so a draw does not depend on what
else is drawn. A draw that fails is a `SampleFailure`, never an exception that takes its siblings along.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypedDict


class Message(TypedDict):
    """One turn of a conversation."""

    role: str
    content: str


def with_system(prompt: Sequence[Message], system: str | None) -> list[Message]:
    """The prompt as the policy reads it: after the sampler's own system message, where it has one."""
    own: list[Message] = [{"role": "system", "content": system}] if system is not None else []
    return [*own, *prompt]


class FinishReason(StrEnum):
    """Why a completion ended."""

    STOP = "stop"
    """The policy ended its turn (end-of-sequence token or a stop string)."""
    LENGTH = "length"
    """`max_new_tokens` was reached first."""


class SampleFailureKind(StrEnum):
    """Why a draw gave no completion."""

    PROMPT_TOO_LONG = "prompt_too_long"
    """Prompt and `max_new_tokens` do not fit the policy's context. Final."""
    UNSUPPORTED_CONTENT = "unsupported_content"
    """The chat template refuses the prompt. Final."""
    REFUSED = "refused"
    """The endpoint refuses this prompt. Final."""
    OVER_BUDGET = "over_budget"
    """The budget does not cover the draw, so it was not made. Transient: a build with a larger budget makes it."""
    TIMEOUT = "timeout"
    """No answer in time. Transient."""
    CONNECTION = "connection"
    """The sampler could not be reached or answered with a server error. Transient."""
    ABORTED = "aborted"
    """The engine gave the draw up. Transient."""

    @property
    def transient(self) -> bool:
        """Whether the next build tries again."""
        return self in (self.OVER_BUDGET, self.TIMEOUT, self.CONNECTION, self.ABORTED)


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """One draw: `completion_id` (16 bytes) keys its noise."""

    completion_id: bytes
    prompt: Sequence[Message]


@dataclass(frozen=True, slots=True)
class Sample:
    """One finished draw. Per-token lists have the length of `token_ids`, the end-of-sequence token included.

    `sampling_logprobs` are under what was really sampled from (after temperature, top-p, top-k), `behavior_logprobs`
    under the sampler's own weights at T = 1 over the full vocabulary. A backend that has only one, or no token ids,
    leaves the others None.
    """

    completion_id: bytes
    text: str
    finish_reason: FinishReason
    token_ids: Sequence[int] | None
    sampling_logprobs: Sequence[float] | None
    behavior_logprobs: Sequence[float] | None


@dataclass(frozen=True, slots=True)
class SampleFailure:
    """A draw that gave no completion."""

    completion_id: bytes
    kind: SampleFailureKind
    detail: str


class Sampler(Protocol):
    """A policy that can be sampled from."""

    @property
    def policy_id(self) -> str:
        """Whose weights: a digest of their content, never a path."""
        ...

    @property
    def policy_version(self) -> int:
        """The optimizer step whose weights these are; 0 for a fixed policy."""
        ...

    @property
    def deterministic(self) -> bool:
        """Whether a request gives the same tokens every time, whatever it is batched with."""
        ...

    def sample(self, requests: Sequence[SampleRequest]) -> Iterator[Sequence[Sample | SampleFailure]]:
        """Yields finished draws in batches, in any order, each request exactly once."""
        ...

    def close(self) -> None:
        """Frees what it holds: the memory of a model, connections. Nothing is sampled afterwards."""
        ...
