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

BACKENDS = {
    "transformers": "prefkit.engines.transformers_sampler:TransformersSampler",
    "fake": "prefkit.sampling.fake:FakeSampler",
    "vllm": "prefkit.engines.vllm_sampler:VllmSampler",
    "vllm_server": "prefkit.engines.vllm_sampler:VllmServerSampler",
    "endpoint": "prefkit.engines.endpoint_sampler:EndpointSampler",
}


class Backend(Protocol):
    """What a registered name leads to: a sampler class that opens itself."""

    def open(self, config: SampleConfig, policy: PolicyConfig | None, policy_id: str) -> Sampler:
        """A sampler that is ready, under the policy id that `resolve_policy_id` gave."""
        ...


def open_sampler(config: SampleConfig, policy: PolicyConfig | None, cache: Path | None = None) -> Sampler:
    """The sampler of a block; `policy` is the recipe's, for a block without its own.

    Raises MissingExtraError, RecipeError, SourceError or EndpointError, each in one line.
    """
    identity = resolve_policy_id(config, policy, cache)
    module, _, name = BACKENDS[config.backend].partition(":")
    try:
        backend = cast(Backend, getattr(importlib.import_module(module), name))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("prefkit"):
            raise
        raise MissingExtraError(
            f"sample backend {config.backend!r} needs {error.name}, which is not installed: "
            f"pip install 'prefkit[train]'"
        ) from None
    return backend.open(config, config.policy or policy, identity)


def resolve_policy_id(config: SampleConfig, policy: PolicyConfig | None, cache: Path | None = None) -> str:
    """Whose weights a block samples from; for an endpoint, the model's name and the revision that the recipe states."""
    if isinstance(config, FakeSampler):
        return fake.FakeSampler(config).policy_id
    model = config.policy or policy
    if model is None:
        raise RecipeError("sample has no policy: set `policy.model` at the top of the recipe or in the block")
    if isinstance(config, EndpointSampler):
        if model.revision is None:
            raise RecipeError(
                f"policy {model.model!r} is behind an endpoint and has no revision, expected your name for this "
                f"deployment of it: set `policy.revision`"
            )
        return f"endpoint:{model.model}@{model.revision}"
    return policy_id(model.model, cache, model.revision)
