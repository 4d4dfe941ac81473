"""A training that is stopped anywhere and goes on is the training that was not stopped."""

import multiprocessing
import os
from pathlib import Path

import pytest

pytest.importorskip("trl")

from prefkit.stream.protocol import Weights
from prefkit_trainers.checkpoints import newest_checkpoint
from prefkit_trainers.metrics import read_metrics
from prefkit_trainers.models import Policy, lora
from prefkit_trainers.training import TrainOutcome, train_dpo
from tests.trainers.builders import ListStream, config, text_pairs, tiny_model, tiny_tokenizer, token_rows

STEPS = 7
ARGS: dict[str, object] = {
    "learning_rate": 1e-2, "max_steps": STEPS, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2,
    "save_strategy": "steps", "save_steps": 3, "save_total_limit": 1, "disable_dropout": False,
    "lr_scheduler_type": "cosine",
}  # fmt: skip


class StoppedError(Exception):
    """The process was stopped."""


class StoppingStream(ListStream):
    """Stops the training once it hears of an event of a step; `harder` ends the process."""

    stop: tuple[str, int] | None = None
    harder = False

    def heard(self, event: str, step: int) -> None:
        if (event, step) == self.stop:
            if self.harder:
                os._exit(9)
            raise StoppedError

    def step_done(self, step: int, weights: Weights) -> None:
        self.heard("step", step)
        super().step_done(step, weights)

    def save(self, step: int, weights: Weights) -> None:
        assert self.folder is not None
        assert not (self.folder.parent / f"checkpoint-{step}").exists(), "the checkpoint came first"
        super().save(step, weights)
        self.heard("save", step)

    def saved(self, step: int) -> None:
        super().saved(step)
        self.heard("saved", step)


def run(folder: Path, stop: tuple[str, int] | None = None, harder: bool = False, adapter: bool = False) -> TrainOutcome:
    """Starts, or goes on where the newest complete checkpoint is."""
    folder.mkdir(exist_ok=True)
    stream = StoppingStream(token_rows(text_pairs(11), tiny_model()), folder / "stream", endless=True)
    stream.stop, stream.harder = stop, harder
    checkpoint = newest_checkpoint(folder, stream.has_state)
    if checkpoint is not None:
        stream.restore(checkpoint.step)
    peft = lora({"r": 2, "lora_dropout": 0.2, "target_modules": ["q_proj"]}) if adapter else None
    policy = Policy(tiny_model(dropout=0.3), tiny_tokenizer(), peft)
    return train_dpo(policy, stream, config(**ARGS), folder, checkpoint)


def losses(folder: Path) -> list[tuple[float | None, float | None]]:
    return [(logged["step"], logged["loss"]) for logged in read_metrics(folder / "metrics.jsonl") if "loss" in logged]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainOutcome, Path]:
    folder = tmp_path_factory.mktemp("whole") / "run"
    return run(folder), folder


@pytest.mark.parametrize(
    ("event", "step", "goes_on_after"),
    [("step", 2, None), ("step", 5, 3), ("save", 6, 3), ("saved", 6, 6), ("saved", STEPS, STEPS)],
)
def test_train_dpo_stopped_anywhere_goes_on_to_the_same_weights(
    event: str, step: int, goes_on_after: int | None, whole: tuple[TrainOutcome, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(StoppedError):
        run(folder, (event, step))
    found = newest_checkpoint(folder, lambda step: (folder / "stream" / f"step-{step}.json").exists())
    assert (found.step if found else None) == goes_on_after
    outcome, uninterrupted = whole
    again = run(folder)
    assert again.weights == outcome.weights
    assert again.steps == STEPS
    assert losses(folder) == losses(uninterrupted)


def test_train_dpo_whose_process_is_killed_goes_on_to_the_same_weights(
    whole: tuple[TrainOutcome, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    process = multiprocessing.get_context("forkserver").Process(target=run, args=(folder, ("step", 5), True))
    process.start()
    process.join(120)
    assert process.exitcode == 9
    assert run(folder).weights == whole[0].weights
    assert losses(folder) == losses(whole[1])


def test_train_dpo_of_an_adapter_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    outcome = run(tmp_path / "whole", adapter=True)
    with pytest.raises(StoppedError):
        run(tmp_path / "stopped", ("step", 5), adapter=True)
    assert run(tmp_path / "stopped", adapter=True).weights == outcome.weights
    with pytest.raises(StoppedError):
        run(tmp_path / "late", ("saved", STEPS), adapter=True)
    assert run(tmp_path / "late", adapter=True).weights == outcome.weights


def test_train_dpo_without_the_checkpoints_optimizer_starts_over(
    whole: tuple[TrainOutcome, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(StoppedError):
        run(folder, ("step", 5))
    (folder / "checkpoint-3" / "optimizer.pt").unlink()
    assert run(folder).weights == whole[0].weights  # on the first step's rows, with the first step's optimizer


def test_train_dpo_tells_the_stream_of_every_step_and_saves_its_state_before_the_checkpoint(tmp_path: Path) -> None:
    stream = StoppingStream(token_rows(text_pairs(11), tiny_model()), tmp_path / "stream", endless=True)
    policy = Policy(tiny_model(), tiny_tokenizer())
    train_dpo(policy, stream, config(**ARGS | {"max_steps": 4, "save_total_limit": 2}), tmp_path)
    assert stream.told == [
        ("begin", 0), ("step", 1), ("step", 2), ("step", 3), ("save", 3), ("saved", 3), ("step", 4), ("save", 4),
        ("saved", 4),
    ]  # fmt: skip


def test_train_dpo_with_a_last_accumulation_that_is_not_full_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    rows = token_rows(text_pairs(14), tiny_model())  # three steps of 4 rows, and one of 2
    args = config(**{name: value for name, value in ARGS.items() if name != "max_steps"} | {"num_train_epochs": 1})

    def start(folder: Path, stop: tuple[str, int] | None = None) -> TrainOutcome:
        folder.mkdir(exist_ok=True)
        stream = StoppingStream(rows, folder / "stream")
        stream.stop = stop
        checkpoint = newest_checkpoint(folder, stream.has_state)
        if checkpoint is not None:
            stream.restore(checkpoint.step)
        return train_dpo(Policy(tiny_model(), tiny_tokenizer()), stream, args, folder, checkpoint, rows=len(rows))

    outcome = start(tmp_path / "whole")
    assert outcome.steps == 4
    with pytest.raises(StoppedError):
        start(tmp_path / "stopped", ("saved", 3))
    assert start(tmp_path / "stopped").weights == outcome.weights
