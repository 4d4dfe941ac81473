"""Models with something wrong with them, refused before vLLM would open them."""

import json
import re
import shutil
from pathlib import Path

import pytest

pytest.importorskip("transformers")
safetensors_torch = pytest.importorskip("safetensors.torch")

from transformers import (  # noqa: E402
    GPT2Config,
    GPT2LMHeadModel,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from prefkit.engines.vllm.model import require_model  # noqa: E402
from prefkit.errors import SourceError  # noqa: E402

POLICY = Path(__file__).parents[2] / "recipes" / "arithmetic" / "policy"


def damaged(folder: Path, damage: str) -> Path:
    """A copy of the arithmetic policy with something wrong with it."""
    copied = Path(shutil.copytree(POLICY, folder / damage))
    config, weights = copied / "config.json", copied / "model.safetensors"
    tensors_of = safetensors_torch.load_file(weights)
    match damage:
        case "lacks a weight":
            del tensors_of["model.layers.0.self_attn.v_proj.weight"]
            safetensors_torch.save_file(tensors_of, weights, {"format": "pt"})
        case "file cut short":
            weights.write_bytes(weights.read_bytes()[:2000])
        case "no config":
            config.write_text("{")
        case "classifier":
            changed = {"architectures": ["Qwen3ForSequenceClassification"]}
            config.write_text(json.dumps(json.loads(config.read_text()) | changed))
        case "small vocabulary":
            config.write_text(json.dumps(json.loads(config.read_text()) | {"vocab_size": 100}))
    return copied


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("lacks a weight", r"lacks 1 weights, the first is 'model\.layers\.0\.self_attn\.v_proj\.weight'"),
        ("file cut short", r"weights in .* cannot be read: .*; save them again"),
        ("no config", r"the config of policy 'p' cannot be read"),
        ("classifier", r"is a Qwen3ForSequenceClassification, expected a causal language model"),
        ("small vocabulary", r"a tokenizer of 464 tokens, expected at most the 100"),
    ],
)
def test_damaged_model_is_refused_before_vllm_would_open_it(tmp_path: Path, damage: str, said: str):
    with pytest.raises(SourceError, match=said) as raised:
        require_model(damaged(tmp_path, damage), 464, False, "policy 'p'")
    assert "\n" not in str(raised.value)


SIZES = {"vocab_size": 464, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
WHOLE = {
    "tied": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, intermediate_size=32, tie_word_embeddings=True)),
    "untied": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, intermediate_size=32, tie_word_embeddings=False)),
    "learned_positions": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=464, n_embd=32, n_layer=1, n_head=2)),
    "experts": lambda: MixtralForCausalLM(MixtralConfig(**SIZES, intermediate_size=32, num_local_experts=2)),
}


def saved(folder: Path, kind: str) -> dict[str, object]:
    """Saves the model, and returns its tensors under the names of its body."""
    model: PreTrainedModel = WHOLE[kind]()
    model.save_pretrained(folder)
    tensors_of = safetensors_torch.load_file(folder / "model.safetensors")
    return {name.removeprefix(f"{model.base_model_prefix}."): tensor for name, tensor in tensors_of.items()}


def rewrite(folder: Path, tensors_of: dict[str, object]) -> None:
    safetensors_torch.save_file(tensors_of, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("kind", WHOLE)
def test_whole_model_is_accepted_also_under_the_names_of_its_body(tmp_path: Path, kind: str):
    bare = saved(tmp_path, kind)
    assert bare.keys() != safetensors_torch.load_file(tmp_path / "model.safetensors").keys()
    require_model(tmp_path, 464, False, "policy 'p'")
    rewrite(tmp_path, bare)
    require_model(tmp_path, 464, False, "policy 'p'")


@pytest.mark.parametrize("kind", sorted(WHOLE.keys() - {"experts"}))  # whose files may use other names than the model
def test_model_that_lost_any_weight_is_refused_by_its_name(tmp_path: Path, kind: str):
    bare = saved(tmp_path, kind)
    for lost in bare:
        rewrite(tmp_path, {name: tensor for name, tensor in bare.items() if name != lost})
        with pytest.raises(SourceError, match=rf"lacks 1 weights, the first is '.*{re.escape(lost)}'"):
            require_model(tmp_path, 464, False, "policy 'p'")
