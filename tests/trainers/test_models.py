"""Opening a policy to train it, and rows it cannot be trained on."""

import json
from pathlib import Path

import pytest

pytest.importorskip("trl")

import torch

from prefkit.errors import PrefkitError, SourceError
from prefkit.sampling.config import PolicyConfig
from prefkit_trainers.models import lora, open_policy
from prefkit_trainers.rows import trained_columns
from prefkit_trainers.weights import ModelWeights
from tests.trainers.builders import save_tiny_policy, tiny_model

ROW = {
    "prompt_ids": [2, 5, 1, 3], "chosen_ids": (7, 1), "rejected_ids": [8, 9, 1], "ref_chosen_logps": -3,
    "ref_rejected_logps": -4.5, "source": "made up", "policy_version": 3,
}  # fmt: skip


def opened(folder: Path, **peft: object):
    return open_policy(PolicyConfig(model=str(folder)), peft or None)


def test_open_policy_is_float32_and_trains_whatever_it_was_saved_in(tmp_path: Path) -> None:
    folder = save_tiny_policy(tmp_path)
    tiny_model().to(torch.bfloat16).save_pretrained(folder)
    policy = opened(folder)
    assert {weight.dtype for weight in policy.model.parameters()} == {torch.float32}
    assert all(weight.requires_grad for weight in policy.model.parameters())
    assert policy.model.training
    assert policy.adapter is None


def test_open_policy_has_the_weights_of_the_folder(tmp_path: Path) -> None:
    policy = opened(save_tiny_policy(tmp_path))
    assert (
        ModelWeights(policy.model, policy.tokenizer).digest() == ModelWeights(tiny_model(), policy.tokenizer).digest()
    )


def test_open_policy_with_peft_passes_its_arguments_on(tmp_path: Path) -> None:
    adapter = opened(save_tiny_policy(tmp_path), r=3, target_modules=["q_proj"]).adapter
    assert adapter is not None
    assert (adapter.r, adapter.target_modules, adapter.task_type) == (3, {"q_proj"}, "CAUSAL_LM")


def without(folder: Path, key: str) -> None:
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({name: value for name, value in json.loads(file.read_text()).items() if name != key}))


def test_open_policy_without_a_pad_token_is_told_in_one_line(tmp_path: Path) -> None:
    without(save_tiny_policy(tmp_path), "pad_token")
    with pytest.raises(SourceError, match=r"^the tokenizer of policy '.*' has no pad token, expected [^\n]*$"):
        opened(tmp_path)


def test_open_policy_without_a_chat_template_is_told_in_one_line(tmp_path: Path) -> None:
    (save_tiny_policy(tmp_path) / "chat_template.jinja").unlink()
    with pytest.raises(SourceError, match=r"^policy '.*' has no chat template[^\n]*$"):
        opened(tmp_path)


def test_open_policy_that_does_not_exist_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"^policy '.*nowhere' does not exist[^\n]*$"):
        opened(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"lora_alpa": 4}, "train.peft.lora_alpa is no argument of PEFT's LoraConfig; did you mean 'lora_alpha'?"),
        ({"layers_to_transform": [1], "target_modules": ".*q"}, "train.peft cannot be obeyed: .*"),
    ],
)
def test_lora_that_cannot_be_obeyed_is_told_in_one_line(arguments: dict[str, object], line: str) -> None:
    with pytest.raises(PrefkitError, match=f"^{line.replace('?', '[?]')}$"):
        lora(arguments)


def test_trained_columns_are_those_that_trl_reads_and_no_others() -> None:
    assert trained_columns(ROW, 7) == {
        "prompt_ids": [2, 5, 1, 3], "chosen_ids": [7, 1], "rejected_ids": [8, 9, 1],
        "ref_chosen_logps": -3.0, "ref_rejected_logps": -4.5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"ref_chosen_logps": None}, "a row has no 'ref_chosen_logps', expected prompt_ids, .*"),
        ({"rejected_ids": []}, "a row has no tokens in 'rejected_ids', expected at least one.*"),
        ({"ref_rejected_logps": float("nan")}, "a row has nan as 'ref_rejected_logps', expected a sum.*"),
        ({"chosen_ids": [1, 2, 3, 4]}, "a row has 8 tokens, expected at most the 7 of train.args.max_length.*"),
    ],
)
def test_trained_columns_of_a_row_of_the_wrong_shape_are_told_in_one_line(change: dict[str, object], line: str) -> None:
    with pytest.raises(SourceError, match=f"^{line}$"):
        trained_columns(ROW | change, 7)
