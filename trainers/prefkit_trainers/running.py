"""A run, from its recipe to its final weights: started anew, gone on with, or replayed."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from prefkit.errors import RecipeError
from prefkit.pipeline.recipe import TrainConfig
from prefkit.pipeline.training.running import Ended, RunStart, clock_of, policy_of, started_run, trained_by
from prefkit.pipeline.training.streaming import RunRecipe, opened_sources
from prefkit.sampling.registry import open_weights
from prefkit.store.runs import Run, RunOutcome, Runs
from prefkit.store.workspace import Workspace
from prefkit.stream.opening import RunFiles, Setting, begun_stream, can_resume, resumed_stream
from prefkit.stream.protocol import TrainingStream
from prefkit.stream.ranks import Ranks, Share, from_first
from prefkit.stream.replayed import ReplayStream, Shuffle
from prefkit.stream.sources import Sources
from prefkit.stream.stream import PreferenceStream
from prefkit_trainers.arguments import dpo_config, rows_per_rank, rows_per_step, saves_at
from prefkit_trainers.checkpoints import Checkpoint, newest_checkpoint
from prefkit_trainers.models import lora, open_policy, open_tokenizer
from prefkit_trainers.ranks import opened_ranks, refuse_processes
from prefkit_trainers.training import TrainOutcome, train_dpo

Tell = Callable[[str], None]


def train(start: RunStart, workspace: Workspace, tell: Tell) -> Ended:
    """Starts a run and trains to its end, in all processes that the launcher has started."""
    _refuse(start)
    ranks = opened_ranks()
    run = from_first(ranks, lambda: started_run(replace(start, ranks=ranks.size), workspace))
    from_first(ranks, lambda: tell(f"run {run.name}: {_told(run)}"))
    return _trained(run, workspace, ranks, tell)


def resume(name: str, workspace: Workspace, tell: Tell) -> Ended:
    """Goes on with a run from its newest complete checkpoint, or from its start where it has none."""
    run = Runs(workspace.root).get(name)
    if run.outcome is not None:
        raise RecipeError(f"run {name!r} has ended after {run.outcome.steps} steps, expected one that was stopped")
    dpo_config(RunRecipe.of(run).train, run.folder, 1)
    ranks = opened_ranks()
    if ranks.size != run.record.ranks:
        raise RecipeError(
            f"run {name!r} was begun by {run.record.ranks} processes, got {ranks.size}, expected as many: start them "
            f"with `torchrun --nproc_per_node {run.record.ranks} -m prefkit_trainers --resume {name}`"
        )
    return _trained(run, workspace, ranks, tell)


def replay(name: str, workspace: Workspace, shuffle: Shuffle | None, folder: Path, tell: Tell) -> Ended:
    """Trains the run's start policy again on its recorded rows, in recorded order or shuffled in windows of steps.

    No sampler, scorer or prompt is used. The new model, and what is logged, lie in `folder`. What several processes
    trained, one replays with all their batches together: the same steps, equal to rounding.
    """
    refuse_processes("replay", f"prefkit replay {name}")
    asked = _in_one_process(RunRecipe.of(Runs(workspace.root).get(name)))
    args = dpo_config(asked.train, folder, _unknown_rows(asked.train))
    stream = ReplayStream(asked.run.folder / "recording", rows_per_step(args), shuffle)
    folder.mkdir(parents=True, exist_ok=True)
    outcome = _trained_on(asked, stream, folder, None, stream.rows_served, tell)
    return Ended(name, folder, RunOutcome(outcome.steps, outcome.weights, outcome.metrics), 0)


def _trained(run: Run, workspace: Workspace, ranks: Ranks, tell: Tell) -> Ended:
    asked = RunRecipe.of(run)
    files = RunFiles(run.folder, run.record.id)
    sources = opened_sources(asked, workspace.policy_cache, ranks)
    rows = None
    if not _is_endless(asked.train):
        rows = rows_per_rank(asked.train, run.kept("rows").num_rows, ranks.size)
    checkpoint = from_first(ranks, lambda: newest_checkpoint(run.folder, partial(can_resume, files), ranks.size))
    stream = _stream(files, checkpoint, _setting(asked, sources, ranks, rows))
    with closing(stream):
        outcome = _trained_on(asked, stream, run.folder, checkpoint, rows, tell)
        stream.end()
    ended = RunOutcome(outcome.steps, outcome.weights, outcome.metrics)
    from_first(ranks, partial(run.end, ended))
    return Ended(run.name, run.folder, ended, checkpoint.step if checkpoint else 0)


def _setting(asked: RunRecipe, sources: Sources, ranks: Ranks, rows: int | None) -> Setting:
    args = dpo_config(asked.train, asked.run.folder, rows)
    share = Share(ranks, args.per_device_train_batch_size, None if rows is None else rows * ranks.size)
    return Setting(sources, clock_of(asked.train), partial(saves_at, args), share)


def _stream(files: RunFiles, checkpoint: Checkpoint | None, setting: Setting) -> PreferenceStream:
    if checkpoint is None:
        return begun_stream(files, setting)
    return resumed_stream(files, checkpoint.step, setting, open_weights)


def _in_one_process(asked: RunRecipe) -> RunRecipe:
    batch = dpo_config(asked.train, asked.run.folder, 1).per_device_train_batch_size * asked.run.record.ranks
    args = {**asked.train.args, "per_device_train_batch_size": batch}
    return replace(asked, train=asked.train.model_copy(update={"args": args}))


def _trained_on(
    asked: RunRecipe,
    stream: TrainingStream,
    folder: Path,
    checkpoint: Checkpoint | None,
    rows: int | None,
    tell: Tell,
) -> TrainOutcome:
    policy = open_policy(policy_of(asked.recipe, asked.folder), asked.train.peft)
    return train_dpo(policy, stream, asked.train, folder, checkpoint, rows, tell)


def _refuse(start: RunStart) -> None:
    """Tells what TRL and PEFT would not take, or a tokenizer that will not do, before anything is written."""
    train = trained_by(start.recipe)
    dpo_config(train, Path("unused"), _unknown_rows(train))
    if train.peft is not None:
        lora(train.peft)
    open_tokenizer(policy_of(start.recipe, start.folder))


def _unknown_rows(train: TrainConfig) -> int | None:
    """How many rows a run reads, where its version is not there to count: None where it has no end."""
    return None if _is_endless(train) else 1


def _is_endless(train: TrainConfig) -> bool:
    """Only the rows of a single version are so many an epoch."""
    return train.sync_period is not None or bool(train.mix)


def _told(run: Run) -> str:
    record = run.record
    return f"{record.method} on {record.data}" if record.data else f"{record.method}, sampling as it learns"


def reproducible() -> bool:
    """Whether the same run gives the same weights here: on CPUs it does."""
    return not torch.cuda.is_available()
