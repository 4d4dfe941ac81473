"""From a recipe's `sample` block to a sampler. Backends are reached by name: none is imported before it is used.

`resolve_policy_id` says whose weights a block samples from without loading them: a build plans with it and opens the
sampler only when something is missing.
"""

import importlib
from pathlib import Path
from typing import Protocol, cast

from prefkit.errors import MissingExtraError, RecipeError
from prefkit.sampling import fake
from prefkit.sampling.config import EndpointSampler, FakeSampler, PolicyConfig, SampleConfig
from prefkit.sampling.policy import policy_id
from prefkit.sampling.protocol import Sampler
from prefkit.sampling.weights import SyncedSampler, Weights
from prefkit.spending import Budget

BACKENDS = {
    "transformers": "prefkit.engines.transformers_sampler:TransformersSampler",
    "fake": "prefkit.sampling.fake:FakeSampler",
    "vllm": "prefkit.engines.vllm.sampler:VllmSampler",
    "vllm_server": "prefkit.engines.vllm.sampler:VllmServerSampler",
    "endpoint": "prefkit.engines.endpoint_sampler:EndpointSampler",
}
EXTRAS = {"vllm": "vllm"}
"""The extra with a backend's packages, where it is not `transformers`."""

SAVED_WEIGHTS = "prefkit.engines.saved_weights:SavedWeights"
NO_POLICY = "sample has no policy: set `policy.model` at the top of the recipe or in the block"


class Backend(Protocol):
    """What a registered name leads to: a sampler class that opens itself."""

    def open(self, config: SampleConfig, policy: PolicyConfig | None, policy_id: str) -> Sampler:
        """A sampler that is ready, under the policy id that `resolve_policy_id` gave."""
        ...


class PaidBackend(Protocol):
    """The same for a sampler whose draws cost money."""

    def open(self, config: SampleConfig, policy: PolicyConfig | None, policy_id: str, budget: Budget) -> Sampler:
        """A sampler that is ready and draws within `budget`."""
        ...


class SavedWeights(Protocol):
    """What SAVED_WEIGHTS leads to."""

    def __call__(self, folder: Path) -> Weights:
        """The weights of a folder."""
        ...


class SyncedBackend(Protocol):
    """The same for a sampler that can follow a training."""

    def open(self, config: SampleConfig, policy: PolicyConfig | None, policy_id: str) -> SyncedSampler:
        """A sampler that is ready, with the weights of `policy`."""
        ...


def open_sampler(
    config: SampleConfig, policy: PolicyConfig | None, cache: Path | None = None, budget: Budget | None = None
) -> Sampler:
    """The sampler of a block; `policy` is the recipe's, for a block without its own; `budget` limits paid draws.

    Raises MissingExtraError, RecipeError, SourceError or EndpointError, each in one line.
    """
    identity = resolve_policy_id(config, policy, cache)
    model = config.policy or policy
    if isinstance(config, EndpointSampler):
        return cast(PaidBackend, _backend(config)).open(config, model, identity, budget or Budget())
    return cast(Backend, _backend(config)).open(config, model, identity)


def open_synced(config: SampleConfig, policy: PolicyConfig | None, policy_id: str) -> SyncedSampler:
    """The sampler of a block that draws from the policy in training, which is known as `policy_id`.

    It starts with the weights of `policy`, the recipe's. Raises RecipeError for a block that cannot follow it, and as
    `open_sampler`.
    """
    if isinstance(config, EndpointSampler):
        raise RecipeError(
            f"sample backend 'endpoint' cannot follow the policy in training: {config.endpoint} takes no weights; use "
            f"{', '.join(name for name in BACKENDS if name != config.backend)}"
        )
    if config.policy not in (None, policy):
        raise RecipeError(
            f"sample block draws from its own policy {config.policy.model!r}, expected that in training: leave out "
            f"`sample.policy`"
        )
    if policy is None and not isinstance(config, FakeSampler):
        raise RecipeError(NO_POLICY)
    return cast(SyncedBackend, _backend(config)).open(config, policy, policy_id)


def open_weights(folder: Path) -> Weights:
    """Weights that a learner has saved, with the probe beside them. Raises DamageError when they are not there."""
    module, _, name = SAVED_WEIGHTS.partition(":")
    return cast(SavedWeights, getattr(importlib.import_module(module), name))(folder)


def _backend(config: SampleConfig) -> object:
    module, _, name = BACKENDS[config.backend].partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("prefkit"):
            raise
        raise MissingExtraError(
            f"sample backend {config.backend!r} needs {error.name}, which is not installed: "
            f"pip install 'prefkit[{EXTRAS.get(config.backend, 'transformers')}]'"
        ) from None


def resolve_policy_id(config: SampleConfig, policy: PolicyConfig | None, cache: Path | None = None) -> str:
    """Whose weights a block samples from; for an endpoint, the model's name and the revision that the recipe states."""
    if isinstance(config, FakeSampler):
        return fake.FakeSampler(config).policy_id
    model = config.policy or policy
    if model is None:
        raise RecipeError(NO_POLICY)
    if isinstance(config, EndpointSampler):
        if model.revision is None:
            raise RecipeError(
                f"policy {model.model!r} is behind an endpoint and has no revision, expected your name for this "
                f"deployment of it: set `policy.revision`"
            )
        return f"endpoint:{model.model}@{model.revision}"
    return policy_id(model.model, cache, model.revision)
