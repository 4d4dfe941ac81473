"""A reference model as the check sees it: texts become the tokens a trainer sees, tokens become log-probs.

Two steps, since the first is cheap and decides what of the second is needed: a stored log-prob is keyed by the tokens
as trained, so a change of the template or of the longest length computes anew exactly the rows whose tokens changed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from prefkit.sampling.protocol import Message


@dataclass(frozen=True, slots=True)
class Text:
    """A completion of a prompt, to be tokenised as a trainer does."""

    id: bytes
    prompt: Sequence[Message]
    completion: Sequence[Message]
    token_ids: Sequence[int] | None = None
    """The tokens the completion was sampled as, where they are known.

    A tokenizer that reads them as the text trains on them as they are; to any other it is a text.
    """


@dataclass(frozen=True, slots=True)
class Trained:
    """What a trainer sees of a text."""

    id: bytes
    prompt_ids: Sequence[int]
    completion_ids: Sequence[int]
    """With the end-of-sequence token where the template, or a finished sample, has one; cut at the longest length."""
    cut: int
    """Tokens of the completion beyond the longest length."""
    retokenised: bool = False
    """Whether it was sampled as other tokens, which this tokenizer does not read as the text."""

    @property
    def tokens(self) -> int:
        """How many tokens of the completion are trained on."""
        return len(self.completion_ids)


@dataclass(frozen=True, slots=True)
class Logprobs:
    """Log-probs of the completion's tokens under the model, T = 1, full vocabulary, in nats."""

    id: bytes
    logprobs: Sequence[float]
    """One per completion token."""


class ReferenceModel(Protocol):
    """A causal language model that scores given tokens."""

    @property
    def model_id(self) -> str:
        """Digest of weights, config, tokenizer and chat template; see `prefkit.sampling.policy`."""
        ...

    def trained(self, texts: Sequence[Text], max_length: int | None) -> list[Trained]:
        """The tokens of each text, in order. Raises SourceError when the tokenizer has no chat template."""
        ...

    def logprobs(self, rows: Sequence[Trained]) -> Iterator[Sequence[Logprobs]]:
        """Yields scored rows in batches, in any order, each row exactly once; a row's result depends on it alone."""
        ...

    def close(self) -> None:
        """Frees the memory of the model; nothing is scored afterwards."""
        ...
