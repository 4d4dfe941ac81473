"""`train.args` of a recipe: TRL's arguments under TRL's names, and which of them a stream decides."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from math import ceil
from pathlib import Path
from typing import Any, cast, get_type_hints

import torch
from pydantic import TypeAdapter, ValidationError
from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
)
from trl.trainer.dpo_config import DPOConfig

from prefkit.engines.chat import first_line
from prefkit.errors import RecipeError, suggestion
from prefkit.pipeline.recipe import TrainConfig

LOSSES = (
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
)  # fmt: skip
"""Every loss of TRL's DPOTrainer: all of them read sums of reference log-probs and nothing else of the reference."""

_STREAM = "the stream decides it: take it out"
_NO_CUTS = "rows are cut by `max_length` from the end, before their reference sums are made: take it out"
_RESET = "expected `train.reference: reset` and `reference_reset_period`: set these"
_NO_EVALUATION = "nothing is held out while training runs: take it out and run `prefkit eval`"
_OPENED = "the policy is opened as the recipe's `policy` block says: take it out"
REFUSED: Mapping[str, str] = {
    "output_dir": "the run has its own folder: take it out",
    **dict.fromkeys(
        (
            "ignore_data_skip", "precompute_ref_log_probs", "precompute_ref_batch_size", "dataloader_num_workers",
            "dataloader_drop_last", "dataloader_prefetch_factor", "dataloader_persistent_workers",
            "dataloader_multiprocessing_context", "dataset_num_proc", "train_sampling_strategy", "data_seed",
            "remove_unused_columns", "auto_find_batch_size", "padding_free",
        ),
        _STREAM,
    ),
    **dict.fromkeys(("truncation_mode", "pad_token"), _NO_CUTS),
    **dict.fromkeys(("sync_ref_model", "ref_model_mixup_alpha", "ref_model_sync_steps"), _RESET),
    **dict.fromkeys(("eval_strategy", "eval_steps", "do_eval", "load_best_model_at_end"), _NO_EVALUATION),
    **dict.fromkeys(("model_init_kwargs", "trust_remote_code"), _OPENED),
    "ld_alpha": "it weighs single tokens of the reference, of which only sums are stored: take it out",
    "save_only_model": "a run goes on from its checkpoints, which need the optimizer: take it out",
    "enable_jit_checkpoint": "its checkpoints lack the stream's state: take it out and set `save_steps`",
}  # fmt: skip
"""What a recipe may not set, and why."""

LEAST = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 1, "learning_rate": 0}
"""Numbers that TRL takes as they are, and of which torch says only later that they are too small."""

_SAVING = ("no", "steps")


def dpo_config(train: TrainConfig, run_folder: Path, rows: int | None = None) -> DPOConfig:
    """TRL's configuration of a run. `rows` is how many rows a finite stream gives to a rank, None for an endless one.

    Defaults are TRL's, but that nothing is reported anywhere, that a machine without a GPU trains in float32, and that
    TRL draws no progress bar. Raises RecipeError in one line.
    """
    given = {name: _typed(name, value) for name, value in train.args.items()}
    _require_served(given)
    # The old name of activation checkpointing, which TRL still has a default for, warns unless the new one is set.
    checkpointing = {
        new: given.pop(old)
        for old, new in (
            ("gradient_checkpointing", "activation_checkpointing"),
            ("gradient_checkpointing_kwargs", "activation_checkpointing_kwargs"),
        )
        if old in given
    }
    defaults: dict[str, object] = {"report_to": "none", "disable_tqdm": True, "activation_checkpointing": True}
    if not torch.cuda.is_available():
        defaults |= {"use_cpu": True, "bf16": False}
    fixed: dict[str, object] = {
        "output_dir": str(run_folder),
        "max_steps": _steps(given, rows),
        "ignore_data_skip": True,
        "precompute_ref_log_probs": True,
        "dataloader_num_workers": 0,
        "remove_unused_columns": False,
    }
    every: dict[str, Any] = {**defaults, **checkpointing, **given, **fixed}
    try:
        config = DPOConfig(**every)
    except (ValueError, TypeError) as error:
        raise RecipeError(f"train.args cannot be obeyed: {first_line(error)}") from None
    _require_reporters(cast(list[str], config.report_to))  # which it has made a list
    return config


def rows_per_rank(train: TrainConfig, rows: int, ranks: int = 1) -> int:
    """How many rows each rank reads in a run over a version of `rows` rows: of `num_train_epochs` or of `max_steps`.

    Where the ranks' shares are not equal, the first rows are read once more.
    """
    given = {name: _typed(name, value) for name, value in train.args.items()}
    steps = _given_steps(given)
    if steps is not None:
        return steps * rows_per_step(given)
    return ceil(rows * cast(float, _value(given, "num_train_epochs")) / ranks)


def rows_per_step(args: Mapping[str, object] | DPOConfig) -> int:
    """How many rows each rank reads for an optimizer step."""
    names = ("per_device_train_batch_size", "gradient_accumulation_steps")
    batch, accumulated = (
        getattr(args, name) if isinstance(args, DPOConfig) else cast(int, _value(args, name)) for name in names
    )
    return batch * accumulated


def saves_at(args: DPOConfig, step: int) -> bool:
    """Whether TRL writes a checkpoint after this step: every `save_steps`, or that share of all steps, and the last.

    With 0 `save_steps` it writes the last alone.
    """
    if args.save_strategy == "no":
        return False
    period = int(args.save_steps) if args.save_steps >= 1 else ceil(args.max_steps * args.save_steps)
    return (period > 0 and step % period == 0) or step == args.max_steps


def _steps(given: Mapping[str, object], rows: int | None) -> int:
    steps = _given_steps(given)
    if rows is None:
        if steps is None:
            raise RecipeError("train.args.max_steps is missing and the stream has no end: add it")
        return steps
    available = ceil(rows / rows_per_step(given))
    return available if steps is None else min(steps, available)


def _given_steps(given: Mapping[str, object]) -> int | None:
    steps = cast(int, given.get("max_steps", -1))
    return steps if steps > 0 else None


def _require_served(given: Mapping[str, object]) -> None:
    for name in given:
        # What says "off" asks for nothing, so a list of arguments that was written out in full may stay.
        if name in REFUSED and given[name] not in (None, False, "no"):
            raise RecipeError(f"train.args.{name} is set, {REFUSED[name]}")
    for name, least in LEAST.items():
        if (value := cast(float, _value(given, name))) < least:
            raise RecipeError(f"train.args.{name} is {value:g}, expected at least {least}: correct it")
    strategy = given.get("save_strategy", "steps")
    if strategy not in _SAVING:
        raise RecipeError(f"train.args.save_strategy is {strategy!r}, expected 'steps' or 'no': a stream has no epochs")
    for loss in cast(list[str], given.get("loss_type", [])):
        if loss not in LOSSES:
            raise RecipeError(f"train.args.loss_type has {loss!r}{suggestion(loss, list(LOSSES))}")


def _require_reporters(names: Sequence[str]) -> None:
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            raise RecipeError(f"train.args.report_to has {name!r}{suggestion(name, list(INTEGRATION_TO_CALLBACK))}")
        if name not in (*get_available_reporting_integrations(), "flyte"):  # which it does not look for
            raise RecipeError(f"train.args.report_to has {name!r}, expected one that is installed: install it")


def _typed(name: str, value: object) -> object:
    """The value in the type of TRL's argument: YAML reads 1e-6 as text."""
    hints = get_type_hints(DPOConfig)
    known = [field.name for field in fields(DPOConfig) if field.init]
    if name not in known:
        raise RecipeError(f"train.args.{name} is no argument of TRL's DPOConfig{suggestion(name, known)}")
    if name == "loss_type" and isinstance(value, str):
        return [value]
    try:
        return TypeAdapter(hints[name]).validate_python(value)
    except ValidationError as error:
        told = error.errors()[0]["msg"].removeprefix("Input should be ")
        raise RecipeError(f"train.args.{name} is {value!r}, expected {told}") from None


def _value(given: Mapping[str, object], name: str) -> object:
    [default] = [field.default for field in fields(DPOConfig) if field.name == name]
    return given.get(name, default)
