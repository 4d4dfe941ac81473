"""A model in this process that follows a learner: sampler or reference, its weights are replaced in place by copies.

The copies share no memory with the learner, whose next step changes nothing here. Tied weights stay tied. Weights come
under the names of a checkpoint; where a model has others in memory (experts as one tensor), transformers converts them.
"""

from collections.abc import Mapping
from typing import cast

import torch
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from prefkit.engines.loading import context_length
from prefkit.engines.probe import coarsest, probed, require_agreement, require_probe
from prefkit.engines.weights import fitting
from prefkit.errors import SyncError
from prefkit.sampling.weights import Weights


class SyncedModel:
    """A causal language model and the version of its weights. `subject` is what messages call it."""

    def __init__(self, model: PreTrainedModel, subject: str) -> None:
        self._model = model
        self._subject = subject
        self._version: int | None = 0

    @property
    def model(self) -> PreTrainedModel:
        """Raises SyncError when its weights are not known, because a sync failed."""
        _ = self.version
        return self._model

    @property
    def version(self) -> int:
        """The optimizer step whose weights these are, 0 before any sync. Raises as `model`."""
        if self._version is None:
            raise SyncError(
                f"the {self._subject} holds unknown weights, expected those of a sync that succeeded: sync it again"
            )
        return self._version

    def sync(self, weights: Weights, version: int) -> float:
        """Copies the weights, cast to the model's number format, and returns the largest difference on the probe.

        Raises SyncError when the weights do not fit, which changes nothing, or when the model does not say what they
        say: then it is not used until a sync succeeds.
        """
        own = _own_weights(self._model)
        checkpoint = cast(dict[str, torch.Tensor], revert_weight_conversion(self._model, own))
        layout = {name: tuple(weight.shape) for name, weight in checkpoint.items()}
        sent = fitting(weights.tensors(), layout, self._subject)
        probe = require_probe(weights.probe(), context_length(self._model))
        self._version = None
        with torch.no_grad():
            arrived = sent if checkpoint.keys() == own.keys() else _converted(self._model, sent)
            for name, weight in own.items():
                weight.copy_(arrived[name])
        dtype = coarsest(str(self._model.dtype).removeprefix("torch."), sent.values())
        difference = require_agreement(probe, probed(self._model, probe), dtype, self._subject)
        self._version = version
        return difference


def _converted(model: PreTrainedModel, sent: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of a checkpoint under the model's own names, by way of a second model."""
    second = type(model).from_pretrained(None, config=model.config, state_dict=dict(sent), dtype=model.dtype)
    return cast(dict[str, torch.Tensor], second.state_dict())


def _own_weights(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """By the first of its names, each piece of memory once: what a checkpoint holds."""
    own: dict[tuple[int, tuple[int, ...]], str] = {}
    tensors = model.state_dict()
    for name, tensor in tensors.items():
        own.setdefault((tensor.data_ptr(), tuple(tensor.shape)), name)
    return {name: tensors[name] for name in own.values()}
