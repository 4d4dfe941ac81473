"""A checkpoint counts when all of it is there and can be read."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("trl")

import torch
from safetensors.torch import load_file, save_file

from prefkit_trainers.checkpoints import Checkpoint, forget_after, is_complete, newest_checkpoint
from prefkit_trainers.training import train_dpo
from tests.trainers.builders import ListStream, config, text_pairs, tiny_model, tiny_policy, token_rows


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with the checkpoints of steps 1, 2 and 3."""
    folder = tmp_path_factory.mktemp("run")
    stream = ListStream(token_rows(text_pairs(4), tiny_model()), endless=True)
    args = {"max_steps": 3, "save_strategy": "steps", "save_steps": 1, "per_device_train_batch_size": 1}
    train_dpo(tiny_policy(), stream, config(**args), folder)
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def of_another_step(file: Path) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | {"global_step": 2}))


def test_newest_checkpoint_is_the_last_complete_step(run: Path) -> None:
    assert newest_checkpoint(run, lambda step: True) == Checkpoint(3, run / "checkpoint-3")


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json", "rng_state.pth"]
)
@pytest.mark.parametrize("damage", [Path.unlink, cut])
def test_newest_checkpoint_with_a_missing_or_cut_file_does_not_count(
    name: str, damage: Callable[[Path], None], run: Path
) -> None:
    damage(run / "checkpoint-3" / name)
    found = newest_checkpoint(run, lambda step: True)
    assert found is not None
    assert found.step == 2


@pytest.mark.parametrize(
    ("name", "damage"),
    [("optimizer.pt", flip), ("rng_state.pth", flip), ("trainer_state.json", of_another_step)],
)
def test_is_complete_with_changed_bytes_or_another_step_is_false(
    name: str, damage: Callable[[Path], None], run: Path
) -> None:
    damage(run / "checkpoint-3" / name)
    assert not is_complete(Checkpoint(3, run / "checkpoint-3"))


def test_newest_checkpoint_without_the_streams_state_does_not_count(run: Path) -> None:
    found = newest_checkpoint(run, {1}.__contains__)
    assert found is not None
    assert found.step == 1
    assert newest_checkpoint(run, lambda step: False) is None


def test_is_complete_of_two_ranks_needs_the_random_numbers_of_both(run: Path) -> None:
    checkpoint = Checkpoint(3, run / "checkpoint-3")
    state = checkpoint.folder / "rng_state.pth"
    shutil.copy(state, checkpoint.folder / "rng_state_0.pth")
    assert not is_complete(checkpoint, ranks=2)
    shutil.copy(state, checkpoint.folder / "rng_state_1.pth")
    assert is_complete(checkpoint, ranks=2)


def test_is_complete_of_a_sharded_model_needs_every_shard(run: Path) -> None:
    folder = run / "checkpoint-3"
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"one.safetensors": names[:3], "two.safetensors": names[3:]}
    for shard, held in shards.items():
        save_file({name: tensors[name] for name in held}, folder / shard)
    index = {"weight_map": {name: shard for shard, held in shards.items() for name in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert is_complete(Checkpoint(3, folder))
    (folder / "two.safetensors").unlink()
    assert not is_complete(Checkpoint(3, folder))


def test_newest_checkpoint_passes_over_what_only_has_such_a_name(run: Path) -> None:
    (run / "checkpoint-9").mkdir()
    (run / "checkpoint-old").mkdir()
    (run / "checkpoint-8").write_text("no folder")
    torch.save({}, run / "checkpoint-9" / "optimizer.pt")
    found = newest_checkpoint(run, lambda step: True)
    assert found is not None
    assert found.step == 3
    assert newest_checkpoint(run / "nowhere", lambda step: True) is None


def test_forget_after_removes_later_steps_only(run: Path) -> None:
    forget_after(run, 1)
    assert sorted(folder.name for folder in run.glob("checkpoint-*")) == ["checkpoint-1"]
