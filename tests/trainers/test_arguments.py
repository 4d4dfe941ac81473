"""`train.args`: TRL's names and values, and what a stream decides."""

from pathlib import Path

import pytest

pytest.importorskip("trl")

import torch

from prefkit.errors import RecipeError
from prefkit.pipeline.recipe import TrainConfig
from prefkit_trainers.arguments import dpo_config, rows_per_rank


def train(**args: object) -> TrainConfig:
    return TrainConfig(method="dpo", args=args)


def test_dpo_config_passes_arguments_on_under_trls_names(tmp_path: Path) -> None:
    made = dpo_config(
        train(max_steps=5, beta=0.3, loss_type=["ipo"], learning_rate="1e-5", lr_scheduler_type="cosine", max_length=77,
              label_smoothing=0, use_weighting=True),
        tmp_path,
    )  # fmt: skip
    assert (made.max_steps, made.beta, made.loss_type, made.max_length) == (5, 0.3, ["ipo"], 77)
    assert made.learning_rate == 1e-5  # YAML reads 1e-5 as text
    assert made.lr_scheduler_type == "cosine"
    assert made.use_weighting


def test_dpo_config_fixes_what_a_stream_needs(tmp_path: Path) -> None:
    made = dpo_config(train(max_steps=1), tmp_path)
    assert made.output_dir == str(tmp_path)
    assert made.ignore_data_skip
    assert made.precompute_ref_log_probs
    assert made.dataloader_num_workers == 0
    assert made.report_to == []


def test_dpo_config_on_a_cpu_trains_in_float32_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not dpo_config(train(max_steps=1), tmp_path).bf16
    assert dpo_config(train(max_steps=1, bf16=True), tmp_path).bf16


@pytest.mark.parametrize("on", [True, False])
def test_dpo_config_passes_gradient_checkpointing_on(on: bool, tmp_path: Path) -> None:
    made = dpo_config(
        train(max_steps=1, gradient_checkpointing=on, gradient_checkpointing_kwargs='{"use_reentrant": false}'),
        tmp_path,
    )
    assert made.gradient_checkpointing is on
    assert made.gradient_checkpointing_kwargs == {"use_reentrant": False}


@pytest.mark.parametrize(
    ("args", "line"),
    [
        ({"learn_rate": 1}, "train.args.learn_rate is no argument of TRL's DPOConfig; did you mean 'learning_rate'?"),
        ({"learning_rate": "fast"}, "train.args.learning_rate is 'fast', expected a valid number.*"),
        ({"max_steps": 1.5}, "train.args.max_steps is 1.5, expected a valid integer.*"),
        ({"bf16": "maybe"}, "train.args.bf16 is 'maybe', expected a valid boolean.*"),
        ({"loss_type": "sigmod"}, "train.args.loss_type has 'sigmod'; did you mean 'sigmoid'?"),
        ({"loss_type": ["sigmoid", "ippo"]}, "train.args.loss_type has 'ippo'; did you mean 'ipo'?"),
        ({"loss_weights": [1.0, 2.0]}, "train.args cannot be obeyed: .*loss_weights.*"),
        ({"lr_scheduler_type": "cosin"}, "train.args cannot be obeyed: cosin is not a valid.*"),
        ({"ld_alpha": 0.5}, "train.args.ld_alpha is set, it weighs single tokens.*"),
        ({"save_only_model": True}, "train.args.save_only_model is set, a run goes on from its checkpoints.*"),
        ({"output_dir": "elsewhere"}, "train.args.output_dir is set, the run has its own folder: take it out"),
        ({"sync_ref_model": True}, "train.args.sync_ref_model is set, expected `train.reference: reset`.*"),
        ({"dataloader_num_workers": 2}, "train.args.dataloader_num_workers is set, the stream decides it: take it out"),
        ({"eval_strategy": "steps"}, "train.args.eval_strategy is set, .*prefkit eval.*"),
        ({"per_device_train_batch_size": 0}, "train.args.per_device_train_batch_size is 0, expected at least 1.*"),
        ({"gradient_accumulation_steps": 0}, "train.args.gradient_accumulation_steps is 0, expected at least 1.*"),
        ({"learning_rate": -1e-6}, "train.args.learning_rate is -1e-06, expected at least 0.*"),
        ({"report_to": "wndb"}, "train.args.report_to has 'wndb'; did you mean 'wandb'?"),
        ({"report_to": ["nowhere"]}, "train.args.report_to has 'nowhere'; known: .*"),
        ({"save_strategy": "epoch"}, "train.args.save_strategy is 'epoch', expected 'steps' or 'no'.*"),
        ({}, "train.args.max_steps is missing and the stream has no end: add it"),
    ],
)  # fmt: skip
def test_dpo_config_that_cannot_be_obeyed_is_told_in_one_line(
    args: dict[str, object], line: str, tmp_path: Path
) -> None:
    steps = {"max_steps": 1} if args else {}
    with pytest.raises(RecipeError, match=f"^{line.replace('?', '[?]')}$") as told:
        dpo_config(train(**steps | args), tmp_path)
    assert "\n" not in str(told.value)


def test_dpo_config_of_arguments_that_say_off_is_obeyed(tmp_path: Path) -> None:
    off = {"ld_alpha": None, "save_only_model": False, "sync_ref_model": False, "eval_strategy": "no"}
    assert dpo_config(train(max_steps=1, **off), tmp_path).max_steps == 1


@pytest.mark.parametrize(
    ("args", "rows", "steps"),
    [
        ({"per_device_train_batch_size": 4}, 10, 3),  # 4 + 4 + 2
        ({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}, 13, 4),
        ({"per_device_train_batch_size": 4, "max_steps": 2}, 10, 2),
        ({"per_device_train_batch_size": 4, "max_steps": 9}, 10, 3),
        ({}, 16, 2),
    ],
)
def test_dpo_config_of_a_finite_stream_takes_steps_until_its_end(
    args: dict[str, object], rows: int, steps: int, tmp_path: Path
) -> None:
    assert dpo_config(train(**args), tmp_path, rows).max_steps == steps


def test_rows_per_rank_are_those_of_the_epochs_or_steps_asked_for() -> None:
    assert rows_per_rank(train(), 10) == 30  # TRL's three epochs
    assert rows_per_rank(train(num_train_epochs=1.5), 10) == 15
    assert rows_per_rank(train(num_train_epochs=1), 11, ranks=2) == 6
    steps = train(max_steps=7, per_device_train_batch_size=2, gradient_accumulation_steps=3)
    assert rows_per_rank(steps, 10, ranks=2) == 42
