"""DPO from a stream against TRL's own trainer over the same texts."""

import gc
import json
from math import log
from pathlib import Path

import pytest

pytest.importorskip("trl")

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, Qwen3ForCausalLM, Trainer
from trl.trainer import dpo_trainer

from prefkit.stream.protocol import Weights
from prefkit_trainers.arguments import LOSSES, dpo_config
from prefkit_trainers.dpo import StreamDPOTrainer
from prefkit_trainers.metrics import read_metrics
from prefkit_trainers.models import Policy, lora
from prefkit_trainers.rows import StreamRows, trained_columns
from prefkit_trainers.training import TrainOutcome, train_dpo
from prefkit_trainers.weights import ModelWeights
from tests.trainers.builders import (
    ListStream,
    config,
    text_pairs,
    tiny_model,
    tiny_policy,
    tiny_tokenizer,
    token_rows,
    trl_offline,
)

QUICK = {"learning_rate": 1e-2, "num_train_epochs": 1}
LORA = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}


def losses(folder: Path) -> list[float]:
    return [logged["loss"] for logged in read_metrics(folder / "metrics.jsonl") if "loss" in logged]


def trained(folder: Path, rows: list[dict[str, object]], policy: Policy | None = None, **args: object) -> TrainOutcome:
    folder.mkdir()
    policy = policy or tiny_policy()
    return train_dpo(policy, ListStream(rows), config(**QUICK | args), folder, rows=len(rows))


@pytest.mark.parametrize(
    "args",
    [
        pytest.param({}, id="sigmoid"),
        pytest.param({"loss_type": ["ipo"], "beta": 0.5}, id="ipo"),
        pytest.param({"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.3]}, id="a list of losses"),
        pytest.param(
            {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2, "lr_scheduler_type": "cosine"},
            id="accumulation, of which the last is not full",
        ),
    ],
)
def test_train_dpo_on_the_rows_of_a_version_is_trls_offline_trainer(args: dict[str, object], tmp_path: Path) -> None:
    pairs = text_pairs(22)
    offline = trl_offline(pairs, tmp_path / "trl", tiny_model(), **QUICK | args)
    rows = token_rows(pairs, tiny_model())
    for row, theirs in zip(rows, offline.train_dataset, strict=True):
        assert [row[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids")] == [
            theirs[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids")
        ]
        for name in ("ref_chosen_logps", "ref_rejected_logps"):
            assert row[name] == pytest.approx(theirs[name], abs=1e-4)
            row[name] = theirs[name]  # the same float32 number, so that weights may be compared bit by bit
    outcome = trained(tmp_path / "ours", rows, **args)
    expected = [logged["loss"] for logged in offline.state.log_history if "loss" in logged]
    assert len(expected) == outcome.steps == 6
    assert losses(tmp_path / "ours") == pytest.approx(expected, abs=1e-6)
    assert outcome.weights == ModelWeights(offline.model, tiny_tokenizer()).digest()


def test_train_dpo_with_own_reference_sums_has_the_same_losses(tmp_path: Path) -> None:
    pairs = text_pairs(12)
    offline = trl_offline(pairs, tmp_path / "trl", tiny_model(), **QUICK)
    trained(tmp_path / "ours", token_rows(pairs, tiny_model()))
    expected = [logged["loss"] for logged in offline.state.log_history if "loss" in logged]
    assert losses(tmp_path / "ours") == pytest.approx(expected, abs=1e-6)


def test_trainer_with_any_loss_of_trl_gives_trls_loss_from_stored_sums(tmp_path: Path) -> None:
    pairs = text_pairs(6)
    offline = trl_offline(pairs, tmp_path / "trl", tiny_model(), **QUICK)  # so that the policy has left the reference
    args = dpo_config(config(max_steps=1), tmp_path)
    ours = StreamDPOTrainer(offline.model, args, StreamRows(ListStream([]), 4, None), tiny_tokenizer())
    rows = token_rows(pairs, tiny_model())
    given = ours.data_collator([trained_columns(row, None) for row in rows])
    theirs = offline.data_collator(list(offline.train_dataset))
    for loss in LOSSES:
        for trainer in (ours, offline):
            trainer.loss_types, trainer.loss_weights, trainer.label_smoothing = [loss], [1.0], 0.1
        expected = offline.compute_loss(offline.model, theirs).item()
        assert ours.compute_loss(ours.model, given).item() == pytest.approx(expected, rel=1e-5), loss


def test_train_dpo_first_loss_is_log_2_when_the_reference_is_the_policy_itself(tmp_path: Path) -> None:
    trained(tmp_path / "run", token_rows(text_pairs(4), tiny_model()))
    assert losses(tmp_path / "run") == pytest.approx([log(2)], abs=1e-5)


def test_train_dpo_reads_the_stored_sums(tmp_path: Path) -> None:
    rows = [
        row | {"ref_chosen_logps": 0.0, "ref_rejected_logps": -50.0} for row in token_rows(text_pairs(4), tiny_model())
    ]
    trained(tmp_path / "run", rows)
    assert losses(tmp_path / "run")[0] > 1


def test_train_dpo_consumes_nothing_before_training_and_never_looks_ahead(tmp_path: Path) -> None:
    stream = ListStream(token_rows(text_pairs(5), tiny_model()), endless=True)
    trainer_args = config(max_steps=3, gradient_accumulation_steps=2)
    train_dpo(tiny_policy(), stream, trainer_args, tmp_path)
    assert stream.served_at_step == {0: 0, 1: 8, 2: 16, 3: 24}
    assert stream.served == 24


def test_stream_rows_twice_iterated_goes_on_where_it_stopped() -> None:
    stream = ListStream(token_rows(text_pairs(4), tiny_model()))
    [first] = StreamRows(stream, 1, None)
    assert stream.served == 1
    assert first["prompt_ids"] == stream.given[0]["prompt_ids"]
    assert [row["prompt_ids"] for row in StreamRows(stream, 3, None)] == [row["prompt_ids"] for row in stream.given[1:]]


def test_train_dpo_ends_when_a_stream_ends_early(tmp_path: Path) -> None:
    stream = ListStream(token_rows(text_pairs(10), tiny_model()))
    assert train_dpo(tiny_policy(), stream, config(max_steps=5), tmp_path).steps == 3


def test_trainer_holds_no_second_model(tmp_path: Path) -> None:
    policy = tiny_policy()
    gc.collect()
    before = sum(type(thing) is Qwen3ForCausalLM for thing in gc.get_objects())
    rows = StreamRows(ListStream([]), 4, None)
    trainer = StreamDPOTrainer(policy.model, dpo_config(config(max_steps=1), tmp_path), rows, policy.tokenizer)
    gc.collect()
    assert trainer.ref_model is None
    assert sum(type(thing) is Qwen3ForCausalLM for thing in gc.get_objects()) == before


def test_trainer_over_sharded_weights_loads_no_second_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stock = Trainer.create_accelerator_and_postprocess

    def sharded(self: Trainer) -> None:
        stock(self)
        self.is_fsdp_enabled = True

    def loads(*args: object, **kwargs: object) -> None:
        raise AssertionError("a reference model was loaded")

    monkeypatch.setattr(Trainer, "create_accelerator_and_postprocess", sharded)
    monkeypatch.setattr(dpo_trainer, "create_model_from_path", loads)
    policy = tiny_policy()
    args = dpo_config(config(max_steps=1), tmp_path)
    with pytest.raises(AssertionError, match="was loaded"):
        dpo_trainer.DPOTrainer(
            policy.model, args=args, train_dataset=Dataset.from_list(text_pairs(4)), processing_class=policy.tokenizer
        )
    trainer = StreamDPOTrainer(policy.model, args, StreamRows(ListStream([]), 4, None), policy.tokenizer)
    assert trainer.ref_model is None
    assert trainer.is_fsdp_enabled


def test_train_dpo_with_lora_trains_an_adapter_on_stored_sums(tmp_path: Path) -> None:
    rows = token_rows(text_pairs(12), tiny_model())
    policy = Policy(tiny_model(), tiny_tokenizer(), lora(LORA))
    outcome = trained(tmp_path / "run", rows, policy, learning_rate=5e-2)
    assert losses(tmp_path / "run")[0] == pytest.approx(log(2), abs=1e-5)
    assert losses(tmp_path / "run")[-1] != pytest.approx(log(2), abs=1e-3)
    start = dict(tiny_model().named_parameters())
    frozen = {name.replace(".base_layer", ""): weight for name, weight in policy.model.named_parameters()}
    assert all(torch.equal(weight, frozen[name]) for name, weight in start.items())
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    assert ModelWeights(merged, tiny_tokenizer()).digest() == outcome.weights
    moved = {name for name, weight in merged.named_parameters() if not torch.equal(weight, start[name])}
    assert moved == {name for name in start if name.endswith(("q_proj.weight", "v_proj.weight"))}


def test_train_dpo_with_lora_on_the_head_is_refused_in_one_line(tmp_path: Path) -> None:
    policy = Policy(tiny_model(tied=False), tiny_tokenizer(), LoraConfig(target_modules=["lm_head"]))
    with pytest.raises(ValueError, match=r"^train.args cannot be obeyed: .*lm_head"):
        train_dpo(policy, ListStream([]), config(max_steps=1), tmp_path)


def test_train_dpo_in_bf16_keeps_the_trained_weights_float32(tmp_path: Path) -> None:
    rows = token_rows(text_pairs(8), tiny_model())
    policy = tiny_policy()
    outcome = trained(tmp_path / "bf16", rows, policy, bf16=True)
    assert {weight.dtype for weight in policy.model.parameters()} == {torch.float32}
    full = trained(tmp_path / "full", rows)
    assert outcome.weights != full.weights  # so it did train in bfloat16
    assert losses(tmp_path / "bf16") == pytest.approx(losses(tmp_path / "full"), abs=0.02)
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "bf16" / "model")
    assert {weight.dtype for weight in saved.parameters()} == {torch.float32}


def test_weights_of_a_bf16_training_are_probed_in_float32(tmp_path: Path) -> None:
    class Probing(ListStream):
        def begin(self, step: int, weights: Weights) -> None:
            assert weights.probe().logprobs == pytest.approx(expected, abs=1e-6)
            super().begin(step, weights)

    expected = ModelWeights(tiny_model(), tiny_tokenizer()).probe().logprobs
    stream = Probing(token_rows(text_pairs(4), tiny_model()))
    train_dpo(tiny_policy(), stream, config(max_steps=1, bf16=True), tmp_path)
    assert stream.told[0] == ("begin", 0)


def test_train_dpo_with_gradient_checkpointing_is_the_same_training(tmp_path: Path) -> None:
    rows = token_rows(text_pairs(8), tiny_model())
    plain = trained(tmp_path / "plain", rows)
    assert trained(tmp_path / "checkpointing", rows, gradient_checkpointing=True).weights == plain.weights


def test_train_dpo_model_folder_holds_the_final_policy_as_it_came(tmp_path: Path) -> None:
    policy = tiny_policy()
    before = policy.model.config.to_dict() | {"architectures": ["Qwen3ForCausalLM"], "dtype": "float32"}
    outcome = trained(tmp_path / "run", token_rows(text_pairs(8), tiny_model()), policy)
    folder = tmp_path / "run" / "model"
    saved = AutoModelForCausalLM.from_pretrained(folder)
    assert ModelWeights(saved, tiny_tokenizer()).digest() == outcome.weights
    assert json.loads((folder / "config.json").read_text())["use_cache"] is True
    assert {name: value for name, value in saved.config.to_dict().items() if name in before} == before | {
        "_name_or_path": str(folder)
    }
    assert (folder / "chat_template.jinja").exists()
