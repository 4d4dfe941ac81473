"""From the name of a model to a reference model. The engine is reached by name: nothing is imported before it is used.

`reference_id` says whose weights they are without loading them: a check plans with it, and opens the model only when
something is missing.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, cast

from prefkit.errors import MissingExtraError
from prefkit.sampling.policy import policy_id
from prefkit.shift.protocol import ReferenceModel

ENGINES = {
    "transformers": "prefkit.engines.logprobs:TransformersReference",
    "vllm": "prefkit.engines.vllm.logprobs:VllmReference",
}
"""By backend, which is also the name of the extra with its packages."""
ROLE = "reference"
"""What messages call the model."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Which model, and how it is run."""

    model: str
    """A folder with weights, config, tokenizer and chat template, or a Hub id."""
    revision: str | None = None
    """A Hub revision."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of the weights; log-probs are summed up in float32 whatever it is."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`; vLLM knows only `auto`."""
    trust_remote_code: bool = False
    """Run Python code that ships with the model."""
    backend: Literal["transformers", "vllm"] = "transformers"
    """What runs it, in this process. No part of a log-prob's key: in float32 they agree to 1e-5."""


class Engine(Protocol):
    """What the registered name leads to: a reference model class that opens itself."""

    def open(self, reference: Reference, model_id: str) -> ReferenceModel:
        """A model that is ready, under the id that `reference_id` gave."""
        ...


def reference_id(reference: Reference, cache: Path | None = None) -> str:
    """Whose weights. `cache` is where the digests of large files may be remembered.

    Raises SourceError for what is no model folder with a chat template.
    """
    return policy_id(reference.model, cache, reference.revision, ROLE)


def open_reference(reference: Reference, cache: Path | None = None) -> ReferenceModel:
    """The model, ready to score. Raises MissingExtraError, RecipeError or SourceError, each in one line."""
    identity = reference_id(reference, cache)
    return cast(Engine, imported(ENGINES[reference.backend], reference)).open(reference, identity)


def imported(engine: str, reference: Reference) -> object:
    """The class that `module:name` leads to. Raises MissingExtraError without the packages it needs."""
    module, _, name = engine.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("prefkit"):
            raise
        raise MissingExtraError(
            f"{ROLE} {reference.model!r} needs {error.name}, which is not installed: "
            f"pip install 'prefkit[{reference.backend}]'"
        ) from None
