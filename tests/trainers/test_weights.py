"""What a stream is handed of the model in training."""

from pathlib import Path

import pytest

pytest.importorskip("trl")

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, MixtralConfig, MixtralForCausalLM, PreTrainedModel

from prefkit.engines.loading import load_policy
from prefkit.engines.synced_model import SyncedModel
from prefkit.errors import SyncError
from prefkit.sampling.weights import Logprobed
from prefkit_trainers.weights import ModelWeights
from tests.trainers.builders import save_tiny_policy, tiny_model, tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # by PEFT


def weights(model: PreTrainedModel | PeftModel) -> ModelWeights:
    return ModelWeights(model, tiny_tokenizer())


def adapted(**lora: object) -> PeftModel:
    """A model with an adapter that changes what it says, always the same."""
    given = {"r": 2, "target_modules": ["q_proj", "down_proj"], "init_lora_weights": False} | lora
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = get_peft_model(tiny_model(tied=False), LoraConfig(task_type="CAUSAL_LM", **given))
    if "modules_to_save" in lora:
        with torch.no_grad():
            model.get_base_model().model.norm.weight.add_(0.5)
    return model


@pytest.mark.parametrize("tied", [True, False])
def test_tensors_have_the_names_of_a_checkpoint_and_tied_ones_one(tied: bool, tmp_path: Path) -> None:
    model = tiny_model(tied=tied)
    model.save_pretrained(tmp_path)
    held = dict(weights(model).tensors())
    assert set(held) == set(load_file(tmp_path / "model.safetensors"))
    assert ("lm_head.weight" in held) is not tied


def test_tensors_of_a_mixture_of_experts_have_the_names_of_its_checkpoint(tmp_path: Path) -> None:
    model = MixtralForCausalLM(
        MixtralConfig(
            vocab_size=44, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
            num_key_value_heads=1, num_local_experts=2,
        )
    )  # fmt: skip
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    held = dict(weights(model).tensors())
    assert set(held) == set(saved)  # in memory the experts are one tensor
    assert all(torch.equal(weight, saved[name]) for name, weight in held.items())


def test_digest_tells_one_bit_and_nothing_else_apart() -> None:
    model = tiny_model()
    before = weights(model).digest()
    assert weights(tiny_model()).digest() == before
    assert weights(tiny_model(seed=1)).digest() != before
    held = weights(model)
    with torch.no_grad():
        bits = model.model.norm.weight.view(torch.int32)
        bits[0] ^= 1
    assert held.digest() != before  # read anew
    bits[0] ^= 1
    assert held.digest() == before


def test_digest_tells_number_formats_apart() -> None:
    model = tiny_model()
    assert weights(model.to(torch.bfloat16)).digest() != weights(tiny_model()).digest()


def test_save_writes_what_load_policy_reads(tmp_path: Path) -> None:
    folder = save_tiny_policy(tmp_path / "policy", seed=1)
    weights(tiny_model()).save(folder)
    loaded = load_policy(folder, torch.float32, torch.device("cpu"))
    assert weights(loaded).digest() == weights(tiny_model()).digest()
    assert not list(folder.glob(".*"))


def test_probe_is_what_the_model_says_of_a_long_text() -> None:
    model = tiny_model().eval()
    probe = weights(model).probe()
    assert (len(probe.prompt_ids), len(probe.completion_ids)) == (224, 8)
    tokens = torch.tensor([[*probe.prompt_ids, *probe.completion_ids]])
    with torch.no_grad():
        logprobs = model(tokens).logits[0].log_softmax(-1)
    expected = [logprobs[223 + place, token].item() for place, token in enumerate(probe.completion_ids)]
    assert probe.logprobs == pytest.approx(expected, abs=1e-5)


def test_probe_has_no_special_tokens_and_fits_a_small_model() -> None:
    probe = weights(tiny_model(context=64)).probe()
    ids = [*probe.prompt_ids, *probe.completion_ids]
    assert len(ids) == 64
    assert len(probe.completion_ids) == 8
    assert not set(ids) & set(tiny_tokenizer().all_special_ids)
    assert len(set(ids)) > 20


def test_probe_changes_neither_random_state_nor_training() -> None:
    model = tiny_model(dropout=0.5)
    model.train()
    model.model.norm.eval()
    modes = [module.training for module in model.modules()]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = weights(model).probe()
    assert torch.equal(torch.rand(3), expected)
    assert [module.training for module in model.modules()] == modes
    assert weights(model).probe() == first  # no dropout
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    "lora",
    [
        pytest.param({}, id="LoRA"),
        pytest.param({"use_dora": True}, id="DoRA"),
        pytest.param({"target_modules": ["q_proj", "embed_tokens"]}, id="an adapter of the embeddings"),
        pytest.param({"modules_to_save": ["norm"]}, id="with a module trained whole"),
    ],
)
def test_tensors_of_an_adapted_model_are_the_merged_model(lora: dict[str, object]) -> None:
    model = adapted(**lora)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    held = {name: weight.clone() for name, weight in weights(model).tensors()}
    after = model.state_dict()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())
    expected = adapted(**lora).merge_and_unload().state_dict()
    assert set(held) == set(expected)
    assert all(torch.equal(weight, expected[name]) for name, weight in held.items())
    start = tiny_model(tied=False).state_dict()
    assert any(not torch.equal(weight, held[name]) for name, weight in start.items())


def test_adapted_model_is_followed_by_a_model_without_adapters() -> None:
    model = adapted()
    follower = SyncedModel(tiny_model(tied=False, seed=9).eval(), "sampler")
    assert follower.sync(weights(model), version=4) < 1e-4
    assert weights(follower.model).digest() == weights(model).digest()


def test_probe_shows_a_follower_with_other_weights() -> None:
    class Lying(ModelWeights):
        def probe(self) -> Logprobed:
            return weights(tiny_model(seed=1)).probe()

    with pytest.raises(SyncError, match="differ by"):
        SyncedModel(tiny_model(), "sampler").sync(Lying(tiny_model(), tiny_tokenizer()), version=1)


def test_saved_model_of_the_auto_class_has_the_same_digest(tmp_path: Path) -> None:
    model = tiny_model()
    model.save_pretrained(tmp_path)
    assert weights(AutoModelForCausalLM.from_pretrained(tmp_path)).digest() == weights(model).digest()
