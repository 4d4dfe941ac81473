"""The policy, opened to be trained."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from prefkit.engines.chat import Chat, first_line
from prefkit.engines.loading import load_policy, require_embeddings
from prefkit.errors import RecipeError, SourceError, suggestion
from prefkit.sampling.config import PolicyConfig
from prefkit.sampling.policy import policy_files, policy_folder
from prefkit_trainers.weights import whole_tensors


@dataclass(frozen=True, slots=True)
class Policy:
    """A model to train, all of it or an adapter."""

    model: PreTrainedModel
    """Its weights are float32 whatever it is trained in: a small step is lost on a bfloat16 weight."""
    tokenizer: PreTrainedTokenizerBase
    adapter: LoraConfig | None = None


@dataclass(frozen=True, slots=True)
class Descriptions:
    """What a model's folder says of it beside its weights."""

    config: PreTrainedConfig
    generation: GenerationConfig

    @classmethod
    def of(cls, model: PreTrainedModel) -> "Descriptions":
        """Copies, which stay as they are."""
        return cls(deepcopy(model.config), deepcopy(model.generation_config))


def open_policy(policy: PolicyConfig, peft: Mapping[str, object] | None = None) -> Policy:
    """The policy of a folder or Hub id, in the memory of the CPU; `peft` holds arguments of PEFT's LoraConfig.

    Raises SourceError for a model that cannot be read, or whose tokenizer has no pad token or chat template, and
    RecipeError for arguments that LoraConfig does not know.
    """
    adapter = lora(peft) if peft is not None else None
    folder = policy_folder(policy.model, policy.revision)
    policy_files(folder)
    chat = Chat.from_folder(folder, trust_remote_code=policy.trust_remote_code)
    tokenizer = open_tokenizer(policy)
    model = load_policy(folder, torch.float32, torch.device("cpu"), policy.trust_remote_code)
    require_embeddings(model, chat.vocabulary, f"policy {str(folder)!r}")
    return Policy(model.requires_grad_(True).train(), tokenizer, adapter)


def open_tokenizer(policy: PolicyConfig) -> PreTrainedTokenizerBase:
    """The tokenizer alone. Raises SourceError where it, its pad token or a chat template is missing."""
    folder = policy_folder(policy.model, policy.revision)
    policy_files(folder)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        folder, trust_remote_code=policy.trust_remote_code
    )
    if tokenizer.pad_token is None:
        raise SourceError(
            f"the tokenizer of policy {str(folder)!r} has no pad token, expected one that no text contains: set "
            "`pad_token` in its tokenizer_config.json"
        )
    return tokenizer


def lora(arguments: Mapping[str, object]) -> LoraConfig:
    """PEFT's configuration of an adapter. Raises RecipeError for an argument that it does not know or refuses."""
    known = [field.name for field in fields(LoraConfig) if field.init]
    for name in arguments:
        if name not in known:
            raise RecipeError(f"train.peft.{name} is no argument of PEFT's LoraConfig{suggestion(name, known)}")
    given: dict[str, Any] = {"task_type": "CAUSAL_LM", **arguments}
    try:
        return LoraConfig(**given)
    except (ValueError, TypeError) as error:
        raise RecipeError(f"train.peft cannot be obeyed: {first_line(error)}") from None


def save_policy(
    model: PreTrainedModel, descriptions: Descriptions, tokenizer: PreTrainedTokenizerBase, folder: Path
) -> None:
    """Writes a model folder that any program of the field can open: weights, adapters merged, and what describes them.

    The descriptions are those the policy came with: a trainer turns the cache off and adds end tokens.
    """
    model.save_pretrained(folder, state_dict=dict(whole_tensors(model)))
    descriptions.config.architectures, descriptions.config.dtype = model.config.architectures, model.config.dtype
    descriptions.config.save_pretrained(folder)
    descriptions.generation.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
