"""The weights of the model in training, as a stream sees them."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from hashlib import blake2b
from pathlib import Path
from typing import cast

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.core_model_loading import revert_weight_conversion

from prefkit.engines.loading import context_length
from prefkit.engines.weights import weights_digest
from prefkit.sampling.weights import Logprobed
from prefkit.store.files import disk_trouble, fsync_file, fsync_folder

FILE = "model.safetensors"
PROMPT_TOKENS = 224
"""Of the probe: more than the 200 that vLLM's prefix cache needs to show that it is stale."""
COMPLETION_TOKENS = 8


class ModelWeights:
    """A model's weights as they are now, whatever is trained of it; implements `Weights`.

    Adapters are merged, in copies: others see a model of the base's names and shapes.
    """

    def __init__(self, model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self._base = base_model(model)
        self._tokenizer = tokenizer

    def digest(self) -> str:
        """32 hex digits of names, shapes, dtypes and bytes, whatever device they are on."""
        return weights_digest(self.tensors())

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Names as in the checkpoint, tied weights once; not copies, so they change with the next step."""
        yield from cast(
            dict[str, torch.Tensor], revert_weight_conversion(self._base, dict(whole_tensors(self._base)))
        ).items()

    def save(self, folder: Path) -> None:
        """Writes `model.safetensors` into the folder, which is made if it must be."""
        with disk_trouble(folder):
            folder.mkdir(parents=True, exist_ok=True)
            draft = folder / f".{FILE}"
            save_file({name: tensor.contiguous() for name, tensor in self.tensors()}, draft, {"format": "pt"})
            fsync_file(draft)
            draft.replace(folder / FILE)
            fsync_folder(folder)

    def probe(self) -> Logprobed:
        """A text of 232 tokens, or of as many as the model reads, that is the same for every model of a vocabulary."""
        prompt, completion = self._probe_ids()
        tokens = torch.tensor([[*prompt, *completion]], device=self._base.device)
        with torch.no_grad(), _evaluating(self._base):
            # The forward of the class: that of the instance may run in bfloat16, or without logits.
            logits = type(self._base).forward(self._base, input_ids=tokens, use_cache=False).logits
        predicted = logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
        logprobs = predicted.gather(-1, tokens[0, len(prompt) :, None]).squeeze(-1)
        return Logprobed(prompt, completion, logprobs.tolist())

    def _probe_ids(self) -> tuple[list[int], list[int]]:
        special = set(self._tokenizer.all_special_ids)
        embeddings = cast(torch.nn.Embedding, self._base.get_input_embeddings()).weight.shape[0]
        words = [token for token in range(min(embeddings, len(self._tokenizer))) if token not in special]
        length = min(PROMPT_TOKENS + COMPLETION_TOKENS, context_length(self._base) or PROMPT_TOKENS + COMPLETION_TOKENS)
        draws = (blake2b(f"probe {place}".encode(), digest_size=8).digest() for place in range(length))
        ids = [words[int.from_bytes(draw, "big") % len(words)] for draw in draws]
        return ids[:-COMPLETION_TOKENS], ids[-COMPLETION_TOKENS:]


def base_model(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The language model itself, which adapters of a PeftModel are part of."""
    return cast(PreTrainedModel, model.get_base_model()) if isinstance(model, PeftModel) else model


def whole_tensors(model: PreTrainedModel) -> Iterator[tuple[str, torch.Tensor]]:
    """Every weight under the name that the model would have without adapters, these merged; tied ones once."""
    adapted = _adapted(model)
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen and not any(name.startswith(f"{place}.") for place in adapted):
            seen.add(id(tensor))
            yield name, _gathered(tensor)
    for place, module in adapted.items():
        for name, tensor in _merged(module).state_dict().items():
            yield f"{place}.{name}", _gathered(tensor)


def _adapted(model: PreTrainedModel) -> dict[str, torch.nn.Module]:
    """The modules that an adapter has replaced, outermost ones only."""
    found: dict[str, torch.nn.Module] = {}
    for place, module in model.named_modules():
        if _has_adapter(module) and not any(place.startswith(f"{outer}.") for outer in found):
            found[place] = module
    return found


def _has_adapter(module: torch.nn.Module) -> bool:
    return isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper)


def _merged(module: torch.nn.Module) -> torch.nn.Module:
    """What the module would be with its adapter merged. Merging and unmerging in place would lose bits."""
    copy = deepcopy(module)
    if isinstance(copy, AuxiliaryTrainingWrapper):
        return copy.unload_and_optionally_merge_module(merge=True, safe_merge=False, adapter_names=None)
    assert isinstance(copy, BaseTunerLayer)
    copy.merge(safe_merge=False)
    return copy.get_base_layer()


def _gathered(tensor: torch.Tensor) -> torch.Tensor:
    """A shard becomes the whole tensor, on every rank."""
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@contextmanager
def _evaluating(model: torch.nn.Module) -> Generator[None]:
    """Without dropout, for as long as the block runs; modules that were not training stay so."""
    training: Sequence[torch.nn.Module] = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
