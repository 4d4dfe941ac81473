"""Loading a policy's weights, with every way this can go wrong told in one line."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging

from prefkit.engines.chat import first_line
from prefkit.errors import RecipeError, SourceError


def torch_device(name: str) -> torch.device:
    """The device a recipe names; `auto` is the first GPU, or the CPU when there is none."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise RecipeError(f"sample.device is {name!r}, expected auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise RecipeError(f"sample.device is {name!r}, but this machine has {count} CUDA devices; use auto or cpu")
    return device


def load_policy(
    folder: Path, dtype: torch.dtype, device: torch.device, trust_remote_code: bool = False
) -> PreTrainedModel:
    """The causal language model of a folder, ready to sample.

    Raises SourceError when it cannot be read, or when weights are missing: transformers would fill them with noise.
    """
    try:
        with _without_bars():
            loaded: object = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, trust_remote_code=trust_remote_code, output_loading_info=True
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise SourceError(
            f"policy {str(folder)!r} cannot be loaded as a causal language model: {first_line(error)}"
        ) from None
    model, report = cast("tuple[PreTrainedModel, dict[str, set[str]]]", loaded)
    if missing := sorted(report["missing_keys"]):
        raise SourceError(
            f"policy {str(folder)!r} lacks {len(missing)} weights, the first is {missing[0]!r}: "
            f"expected a complete causal language model; save it again"
        )
    torch.nn.Module.to(model, device)  # the model's own `to` is wrapped in a way that hides its type
    return model.eval().requires_grad_(False)


@contextmanager
def _without_bars() -> Generator[None]:
    # The build draws its own progress; transformers' bar would run into it.
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def context_length(model: PreTrainedModel) -> int | None:
    """Most tokens the model can read, or None when its config does not say."""
    length: object = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return length if isinstance(length, int) else None
