"""A DPO training, from its first row to its final weights."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from accelerate import PartialState
from peft import PeftModel
from transformers import PreTrainedModel, PrinterCallback, TrainerCallback
from trl.trainer.dpo_config import DPOConfig

from prefkit.engines.chat import first_line
from prefkit.engines.loading import without_bars
from prefkit.errors import PrefkitError, RecipeError
from prefkit.pipeline.recipe import TrainConfig
from prefkit.store.files import publish_folder, remove_tree
from prefkit.stream.protocol import TrainingStream
from prefkit_trainers.arguments import dpo_config, rows_per_step
from prefkit_trainers.checkpoints import Checkpoint, forget_after
from prefkit_trainers.clock import Clock
from prefkit_trainers.dpo import StreamDPOTrainer
from prefkit_trainers.metrics import RunLog
from prefkit_trainers.models import Descriptions, Policy, save_policy
from prefkit_trainers.rows import StreamRows
from prefkit_trainers.weights import ModelWeights, base_model


@dataclass(frozen=True, slots=True)
class TrainOutcome:
    """How a training ended. Its model lies in the run's folder as `model/`."""

    weights: str
    """Digest of the final weights."""
    steps: int
    """The last optimizer step; less than asked for when the stream ended before."""
    metrics: Mapping[str, float]
    """The last value of everything that was logged."""
    warnings: tuple[str, ...]


def _silent(line: str) -> None:
    """Tells nothing."""


def train_dpo(
    policy: Policy,
    stream: TrainingStream,
    config: TrainConfig,
    run_folder: Path,
    resume_from: Checkpoint | None = None,
    rows: int | None = None,
    tell: Callable[[str], None] = _silent,
) -> TrainOutcome:
    """Trains the policy, in place, on a stream that stands where `resume_from` ends, or at its start.

    `rows` is how many rows a finite stream gives to this rank from start to end, None for an endless one. Progress and
    warnings are told line by line, by the first rank. Checkpoints of later steps than `resume_from` are removed: what
    goes on from here makes them anew. Every rank calls this and returns the same digest. Raises RecipeError for
    arguments that cannot be obeyed; what a stream raises ends the training and passes through.
    """
    args = dpo_config(config, run_folder, rows)
    start = resume_from.step if resume_from is not None else 0
    descriptions = Descriptions.of(policy.model)  # as they are before a trainer sets them for itself
    clock = Clock(stream, policy.tokenizer)
    log = RunLog(run_folder / "metrics.jsonl", start, config.sync_period, tell)
    if PartialState().is_main_process:
        forget_after(run_folder, start)
    trainer = _trainer(policy, args, stream, _rows_left(args, start, rows), [clock, log])
    with without_bars():
        _train(trainer, resume_from)
        model = cast("PreTrainedModel | PeftModel", trainer.model)
        _publish(model, policy, descriptions, run_folder / "model")
    digest = ModelWeights(model, policy.tokenizer).digest()
    return TrainOutcome(digest, max(start, trainer.state.global_step), log.last, tuple(log.warnings))


def _rows_left(args: DPOConfig, start: int, rows: int | None) -> int:
    asked = args.max_steps * rows_per_step(args)
    return max(0, (asked if rows is None else min(asked, rows)) - start * rows_per_step(args))


def _trainer(
    policy: Policy, args: DPOConfig, stream: TrainingStream, count: int, callbacks: Sequence[TrainerCallback]
) -> StreamDPOTrainer:
    rows = StreamRows(stream, count, args.max_length)
    try:
        with warnings.catch_warnings():  # PEFT asks for a name that transformers gives up
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            trainer = StreamDPOTrainer(
                policy.model, args, rows, policy.tokenizer, callbacks, stream.metrics, policy.adapter
            )
    except PrefkitError:
        raise
    except (ValueError, NotImplementedError) as error:  # what TRL says of arguments that do not go together
        raise RecipeError(f"train.args cannot be obeyed: {first_line(error)}") from error
    trainer.remove_callback(PrinterCallback)  # it prints every logged dictionary
    return trainer


def _train(trainer: StreamDPOTrainer, resume_from: Checkpoint | None) -> None:
    if resume_from is None:
        trainer.train()
    elif resume_from.step < trainer.args.max_steps:
        trainer.train(resume_from_checkpoint=str(resume_from.folder))
    else:  # it was stopped after its last checkpoint, before its end
        trainer.load_weights(resume_from.folder)


def _publish(model: PreTrainedModel | PeftModel, policy: Policy, descriptions: Descriptions, folder: Path) -> None:
    """Puts the final model into its place, on the first rank, and waits for it on the others."""
    state = PartialState()
    if state.is_main_process:
        draft = folder.with_name(f".{folder.name}")
        for left in (draft, folder):
            remove_tree(left)
        save_policy(base_model(model), descriptions, policy.tokenizer, draft)
        publish_folder(draft, folder)
    state.wait_for_everyone()
