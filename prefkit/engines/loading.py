"""Loading a model's weights, with every way this can go wrong told in one line."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from prefkit.engines.chat import first_line
from prefkit.errors import RecipeError, SourceError


def torch_device(name: str, block: str = "sample") -> torch.device:
    """The device a block of a recipe names; `auto` is the first GPU, or the CPU when there is none."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise RecipeError(f"{block}.device is {name!r}, expected auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise RecipeError(f"{block}.device is {name!r}, but this machine has {count} CUDA devices; use auto or cpu")
    return device


def load_policy(
    folder: Path,
    dtype: torch.dtype,
    device: torch.device,
    trust_remote_code: bool = False,
    role: str = "policy",
) -> PreTrainedModel:
    """The causal language model of a folder, ready to sample. `role` is what messages call it.

    Raises SourceError when it cannot be read, or when weights are missing: transformers would fill them with noise.
    """
    try:
        model, missing = _loaded(AutoModelForCausalLM, folder, dtype, trust_remote_code)
    except _UNREADABLE as error:
        raise SourceError(
            f"{role} {str(folder)!r} cannot be loaded as a causal language model: {first_line(error)}"
        ) from None
    if missing:
        raise SourceError(
            f"{role} {str(folder)!r} lacks {len(missing)} weights, the first is {missing[0]!r}: "
            f"expected a complete causal language model; save it again"
        )
    return _ready(model, device)


def load_reward_model(
    folder: Path, dtype: torch.dtype, device: torch.device, trust_remote_code: bool = False
) -> PreTrainedModel:
    """The sequence classifier of a folder, with one output, ready to score.

    Raises SourceError when it cannot be read, is no classifier or has another number of outputs.
    """
    expected = "expected a sequence classifier with one output"
    try:
        model, missing = _loaded(AutoModelForSequenceClassification, folder, dtype, trust_remote_code)
    except _UNREADABLE as error:
        raise SourceError(f"reward model {str(folder)!r} cannot be loaded, {expected}: {first_line(error)}") from None
    if missing:
        what = "/".join(model.config.architectures or ["model"])
        raise SourceError(
            f"reward model {str(folder)!r} is a {what} that is no complete classifier (it lacks {missing[0]!r}), "
            f"{expected}: name a model that was trained as one"
        )
    if model.config.num_labels != 1:
        raise SourceError(
            f"reward model {str(folder)!r} has {model.config.num_labels} outputs, {expected}: name another model"
        )
    model.config.get_text_config().use_cache = False  # a score needs one pass; keys and values would fill the memory
    return _ready(model, device)


def require_embeddings(model: PreTrainedModel, vocabulary: int, subject: str) -> None:
    """Raises SourceError when the tokenizer knows tokens that the weights do not."""
    require_vocabulary(vocabulary, cast(torch.nn.Embedding, model.get_input_embeddings()).weight.shape[0], subject)


def require_generator(config: PreTrainedConfig, subject: str) -> None:
    """Raises SourceError for the config of a classifier."""
    for architecture in config.architectures or ():
        if "Classification" in architecture:
            raise SourceError(
                f"{subject} is a {architecture}, expected a causal language model: name the model it was made from"
            )


def require_vocabulary(vocabulary: int, embeddings: int, subject: str) -> None:
    """Raises SourceError when a tokenizer of so many tokens knows some that the weights do not."""
    if vocabulary > embeddings:
        raise SourceError(
            f"{subject} has a tokenizer of {vocabulary} tokens, expected at most the {embeddings} its weights know; "
            "save the tokenizer the weights were trained with"
        )


_UNREADABLE = (OSError, ValueError, KeyError, RuntimeError, SafetensorError)


def _loaded(
    kind: type[AutoModelForCausalLM] | type[AutoModelForSequenceClassification],
    folder: Path,
    dtype: torch.dtype,
    trust_remote_code: bool,
) -> tuple[PreTrainedModel, list[str]]:
    """The model, and the names of the weights that its files lack: transformers fills them with noise."""
    with without_bars():
        loaded: object = kind.from_pretrained(
            folder, dtype=dtype, trust_remote_code=trust_remote_code, output_loading_info=True
        )
    model, report = cast("tuple[PreTrainedModel, dict[str, set[str]]]", loaded)
    return model, sorted(report["missing_keys"])


def _ready(model: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    torch.nn.Module.to(model, device)  # the model's own `to` is wrapped in a way that hides its type
    return model.eval().requires_grad_(False)


@contextmanager
def without_bars() -> Generator[None]:
    """Transformers draws no bar while the block runs: a build and a training tell their own progress."""
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
