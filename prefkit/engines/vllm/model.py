"""What can be told of a model before vLLM opens it, from its config and the names in its files.

vLLM (0.28) looks for the weights of norms alone: a linear layer whose weights are in no file computes with whatever lay
in its memory, without any error. So the names that the architecture asks for are compared with those in the files.
"""

from pathlib import Path
from typing import TypeAlias

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.conversion_mapping import get_model_conversion_mapping

from prefkit.engines.chat import first_line
from prefkit.engines.loading import require_generator, require_vocabulary
from prefkit.engines.vllm.weights import layout
from prefkit.engines.weights import Layout
from prefkit.errors import SourceError, SyncError

Kind: TypeAlias = type[AutoModelForCausalLM] | type[AutoModelForSequenceClassification]


def require_model(folder: Path, vocabulary: int, trust_remote_code: bool, subject: str) -> None:
    """What can be told of a causal language model from its config and the names in its files.

    Raises SourceError for a config that cannot be read, a classifier, more tokens in the tokenizer than in the weights,
    damaged files and missing weights.
    """
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise SourceError(f"the config of {subject} cannot be read: {first_line(error)}") from None
    require_generator(config, subject)
    require_vocabulary(vocabulary, config.get_text_config().vocab_size, subject)
    require_weights(folder, AutoModelForCausalLM, config, trust_remote_code, subject)


def require_weights(folder: Path, kind: Kind, config: PreTrainedConfig, trust_remote_code: bool, subject: str) -> None:
    """Raises SourceError when files are damaged or lack a weight of the model that `kind` makes of the config.

    Says nothing of files in older formats, which tell their names only when they are read whole.
    """
    if not any(folder.glob("*.safetensors")):
        return
    try:
        given = layout(folder)
    except SyncError as error:
        raise SourceError(f"{subject} cannot be opened: {error}") from None
    if missing := _missing(given, kind, config, trust_remote_code):
        what = "/".join(config.architectures or ["model"])
        raise SourceError(
            f"{subject} lacks {len(missing)} weights, the first is {missing[0]!r}: expected a complete {what}; "
            "save it again"
        )


def _missing(given: Layout, kind: Kind, config: PreTrainedConfig, trust_remote_code: bool) -> list[str]:
    """The model's weights that are not given; none when its files may use other names than the model."""
    if getattr(config, "quantization_config", None):
        return []
    try:
        with torch.device("meta"):
            model: PreTrainedModel = kind.from_config(config, trust_remote_code=trust_remote_code)
    except ValueError:
        return []  # transformers has no such model, vLLM may
    if get_model_conversion_mapping(model, add_legacy=False):
        return []
    # Files of old models name the weights as their body does.
    body = f"{model.base_model_prefix}."
    there = {name.removeprefix(body) for name in given}
    expected = set(model.state_dict()) - set(model.all_tied_weights_keys)
    return sorted(name for name in expected if name.removeprefix(body) not in there)
