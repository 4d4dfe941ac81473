"""Which of a run's checkpoints can be gone on from.

A checkpoint that lacks its optimizer would go on with a fresh one, silently, and one without the stream's state of the
same step with other rows. So everything is looked at, and a folder's name proves nothing.
"""

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from prefkit.store.files import remove_tree

FULL = "model.safetensors"
SHARDS = "model.safetensors.index.json"
ADAPTER = "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint of a trainer, after the optimizer step `step`."""

    step: int
    folder: Path


def newest_checkpoint(run_folder: Path, has_stream_state: Callable[[int], bool], ranks: int = 1) -> Checkpoint | None:
    """The newest step of which everything is there and can be read, or None.

    `has_stream_state` says whether the stream can go on after a step; `ranks` is how many processes the run has.
    """
    for checkpoint in sorted(_checkpoints(run_folder), key=lambda checkpoint: checkpoint.step, reverse=True):
        if has_stream_state(checkpoint.step) and is_complete(checkpoint, ranks):
            return checkpoint
    return None


def is_complete(checkpoint: Checkpoint, ranks: int = 1) -> bool:
    """Whether weights, optimizer, scheduler, random numbers of every rank and the trainer's state can be read."""
    folder = checkpoint.folder
    random = ["rng_state.pth"] if ranks == 1 else [f"rng_state_{rank}.pth" for rank in range(ranks)]
    archives = ["optimizer.pt", "scheduler.pt", *random, *(["scaler.pt"] if (folder / "scaler.pt").exists() else [])]
    return (
        _step_of(folder / "trainer_state.json") == checkpoint.step
        and _has_weights(folder)
        and all(_is_archive(folder / name) for name in archives)
    )


def forget_after(run_folder: Path, step: int) -> None:
    """Removes what there is of checkpoints of later steps, so that their files never mix with new ones."""
    for checkpoint in _checkpoints(run_folder):
        if checkpoint.step > step:
            remove_tree(checkpoint.folder)


def _checkpoints(run_folder: Path) -> list[Checkpoint]:
    named = [(folder, folder.name.removeprefix("checkpoint-")) for folder in run_folder.glob("checkpoint-*")]
    return [Checkpoint(int(number), folder) for folder, number in named if number.isdecimal() and folder.is_dir()]


def _step_of(state: Path) -> int | None:
    value = _json(state).get("global_step")
    return value if isinstance(value, int) else None


def _has_weights(folder: Path) -> bool:
    if (folder / SHARDS).exists():
        shards = _json(folder / SHARDS).get("weight_map")
        names = set(shards.values()) if isinstance(shards, dict) else set[str]()
        return bool(names) and all(_is_safetensors(folder / name) for name in names)
    return _is_safetensors(folder / FULL) or _is_safetensors(folder / ADAPTER)


def _is_safetensors(file: Path) -> bool:
    try:
        with safe_open(file, framework="numpy") as opened:  # a file that was cut is shorter than its header says
            return bool(opened.keys())
    except (OSError, SafetensorError):
        return False


def _is_archive(file: Path) -> bool:
    """What torch.save writes is a zip archive with checksums."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, EOFError):
        return False


def _json(file: Path) -> dict[str, object]:
    try:
        value: object = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
