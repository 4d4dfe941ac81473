"""What a live stream asks of a reference: tokens always, log-probs where rows are not their own reference.

With `reference: behavior` a row's sampler is its reference, so no second model is loaded: prompts and completions still
become the tokens a trainer sees. With `fixed` and `reset` one copy of the start policy is kept, and `reset` moves it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, cast

from prefkit.errors import RecipeError
from prefkit.shift.protocol import ReferenceModel, Text, Trained
from prefkit.shift.registry import Reference, imported

if TYPE_CHECKING:
    from prefkit.sampling.weights import Weights

TOKENS = "prefkit.engines.policy_tokens:PolicyTokens"
LIVE_REFERENCE = "prefkit.engines.live_reference:LiveTransformersReference"


class Tokens(Protocol):
    """A tokenizer with its chat template."""

    def trained(self, texts: Sequence[Text], max_length: int | None) -> list[Trained]:
        """The tokens a trainer sees of each text, in order. Raises SourceError for texts that cannot be rendered."""
        ...


class LiveReference(ReferenceModel, Protocol):
    """A reference model that can be moved to the policy in training."""

    @property
    def policy_version(self) -> int:
        """The optimizer step whose weights these are; 0 before any sync. Raises SyncError when they are not known."""
        ...

    def sync(self, weights: "Weights", policy_version: int) -> float:
        """From now on scores with a copy of these weights; returns and raises as `SyncedSampler.sync` does."""
        ...


class TokensEngine(Protocol):
    """What TOKENS leads to."""

    def open(self, reference: Reference) -> Tokens:
        """Reads the tokenizer of a folder, and no weights."""
        ...


class LiveEngine(Protocol):
    """What LIVE_REFERENCE leads to."""

    def open(self, reference: Reference, model_id: str) -> LiveReference:
        """A model that is ready, with the weights of its folder."""
        ...


def open_tokens(reference: Reference) -> Tokens:
    """The tokenizer alone. Raises MissingExtraError or SourceError, each in one line."""
    return cast(TokensEngine, imported(TOKENS, reference)).open(reference)


def open_live_reference(reference: Reference, model_id: str) -> LiveReference:
    """The model of the start policy, known as `model_id`. Raises as `open_reference`."""
    if reference.backend != "transformers":
        raise RecipeError(
            f"reference backend {reference.backend!r} cannot follow the policy in training, expected 'transformers'"
        )
    return cast(LiveEngine, imported(LIVE_REFERENCE, reference)).open(reference, model_id)
