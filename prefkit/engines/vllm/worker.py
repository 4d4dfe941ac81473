"""What runs inside vLLM's workers: weights are replaced by those of files that the worker can see.

    python -m vllm.entrypoints.openai.api_server ... \
        --worker-extension-cls prefkit.engines.vllm.worker.WeightReload

vLLM mixes the class into its own worker; the methods are called by name, in this process or over HTTP, so their
arguments are plain data.
"""

import gc
from collections.abc import Iterator
from typing import Protocol, cast

import torch

from prefkit.engines.weights import tensors_of


class _ModelRunner(Protocol):
    """What is used of vLLM's model runner."""

    model: torch.nn.Module

    def reload_weights(self, *, weights_iterator: Iterator[tuple[str, torch.Tensor]]) -> None: ...


class WeightReload:
    """A worker extension."""

    model_runner: _ModelRunner  # the worker's own
    prefkit_loaded: str | None = None

    def prefkit_load(self, files: list[str], label: str) -> None:
        """Replaces the weights by those of safetensors files."""
        self.prefkit_loaded = ""  # neither the old ones nor the new ones, should anything fail
        self.model_runner.reload_weights(weights_iterator=tensors_of(files))
        repack_heads(self.model_runner.model)
        gc.collect()
        self.prefkit_loaded = label

    def prefkit_weights(self) -> dict[str, str | None]:
        """The `label` of the weights that were last loaded; None when they are those it was started with."""
        return {"label": self.prefkit_loaded}


def repack_heads(model: torch.nn.Module) -> None:
    """On a CPU: packs the weights of the output heads anew.

    There vLLM multiplies with a packed copy of each weight. A reload renews the copies of plain layers, but not that of
    a head whose weight is the embedding: its log-probs stay those of the old weights, without any error.
    """
    from vllm.model_executor.layers import utils  # pyright: ignore[reportMissingImports]
    from vllm.model_executor.layers.vocab_parallel_embedding import (  # pyright: ignore[reportMissingImports]
        ParallelLMHead,
    )

    head_type = cast("type[torch.nn.Module]", ParallelLMHead)
    for module in model.modules():
        if isinstance(module, head_type) and hasattr(module, "cpu_linear"):
            utils.dispatch_cpu_unquantized_gemm(module, remove_weight=False)
