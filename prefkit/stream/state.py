"""The state of a stream at a step: with it and the recording, a run goes on as if it had never stopped.

    stream/step-N/{state.json, sampler/, reference/}

A state is written in a folder of its own and renamed: what has the name is whole and on the disk. It goes with the
trainer's checkpoint of the same step and is written first. `state.json` holds the checksums of the weights beside it
and of itself.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from xxhash import xxh3_128_hexdigest

from prefkit.errors import DamageError, NotFoundError, WorkspaceError
from prefkit.store.checksums import file_checksum
from prefkit.store.files import disk_trouble, fsync_file, fsync_folder, remove_tree
from prefkit.stream.mixing import MixState

FORMAT = 1
MODELS = SAMPLER, REFERENCE = "sampler", "reference"
_STATE, _PREFIX = "state.json", "step-"

SaveWeights = Callable[[Path], None]
"""Writes weights into a folder (see `prefkit.stream.protocol.Weights.save`)."""


@dataclass(frozen=True, slots=True)
class StreamState:
    """Where a stream stands when an optimizer step is done and its clock has struck."""

    run_id: str
    step: int
    attempt: int
    """Which attempt records."""
    frames: int
    """How many frames its file held."""
    cursors: Mapping[str, int]
    """By source (`""` without a mix), how many prompts it has taken."""
    waiting: tuple[int, ...]
    """Numbers of the rows that are recorded and neither served nor dropped, in order."""
    rows_recorded: int
    """Of the chain, since its beginning: the number of the next new row."""
    rows_served: int
    """Of the chain, since its beginning."""
    policy_version: int
    """The step whose weights the sampler holds."""
    reference_version: int
    """The step whose weights the reference holds."""
    mix: MixState = field(default_factory=MixState)
    """Whose turn it is among several sources."""

    def version_of(self, model: str) -> int:
        """The step whose weights a model of MODELS holds."""
        return {SAMPLER: self.policy_version, REFERENCE: self.reference_version}[model]


def write_state(
    folder: Path, state: StreamState, sampler: SaveWeights | None = None, reference: SaveWeights | None = None
) -> Path:
    """Writes a state into a run's `stream` folder and returns where, once it is on the disk.

    `sampler` and `reference` save weights that are not those of the trainer's checkpoint. A state of the same step, of
    an earlier attempt, is replaced.
    """
    target = state_folder(folder, state.step)
    draft = folder / f".{target.name}.{os.getpid()}"
    with disk_trouble(target):
        remove_tree(draft)
        for name, save in ((SAMPLER, sampler), (REFERENCE, reference)):
            if save is not None:
                (draft / name).mkdir(parents=True)
                save(draft / name)
        draft.mkdir(parents=True, exist_ok=True)
        (draft / _STATE).write_bytes(_to_bytes(state, _checksums(draft)))
        for path in draft.rglob("*"):
            fsync_file(path)
        fsync_folder(draft)
        _retire(target)
        draft.rename(target)
        fsync_folder(folder)
        fsync_folder(folder.parent)
    return target


def read_state(folder: Path, step: int, run_id: str) -> StreamState:
    """The state of a step; its weights, where there are any, lie in `sampler` and `reference` beside it.

    Raises NotFoundError without one, and DamageError when it, or the weights, are not what was written or are those of
    another run or step.
    """
    path = state_folder(folder, step) / _STATE
    if not path.parent.exists():
        raise NotFoundError(f"{path.parent} does not exist, expected one of: {complete_steps(folder) or 'none'}")
    body, _, checksum = path.read_bytes().rpartition(b"\n") if path.exists() else (b"", b"", b"")
    if xxh3_128_hexdigest(body).encode() != checksum:
        raise DamageError(f"{path} is not what was written: resume from an earlier step")
    found = json.loads(body)
    if found["format"] != FORMAT:
        raise WorkspaceError(f"{path} has format {found['format']}, expected {FORMAT}: resume with that prefkit")
    state = _from_json(found["state"])
    if (state.run_id, state.step) != (run_id, step):
        raise DamageError(
            f"{path} is step {state.step} of run {state.run_id}, expected step {step} of run {run_id}: resume from "
            "another step"
        )
    _check_weights(path.parent, found["files"])
    return state


def complete_steps(folder: Path) -> list[int]:
    """The steps that have a state, in order."""
    names = [path.name.removeprefix(_PREFIX) for path in folder.glob(f"{_PREFIX}*")]
    return sorted(int(name) for name in names if name.isdecimal())


def prune(folder: Path, keep: set[int]) -> None:
    """Removes the states of all other steps, and what a crash left of any. Only the process that records may."""
    for step in set(complete_steps(folder)) - keep:
        _retire(state_folder(folder, step))
    for path in folder.glob(f".{_PREFIX}*"):
        remove_tree(path)


def state_folder(folder: Path, step: int) -> Path:
    """Where the state of a step lies in a run's `stream` folder."""
    return folder / f"{_PREFIX}{step}"


def _retire(target: Path) -> None:
    """Takes a state away whole: a removal that a crash cuts short leaves nothing under its name."""
    if target.exists():
        gone = target.with_name(f".{target.name}.gone")
        remove_tree(gone)
        target.rename(gone)
        fsync_folder(target.parent)
        remove_tree(gone)


def _to_bytes(state: StreamState, files: Mapping[str, str]) -> bytes:
    body = json.dumps({"format": FORMAT, "state": asdict(state), "files": files}, indent=1).encode()
    return body + b"\n" + xxh3_128_hexdigest(body).encode()


def _from_json(found: dict[str, object]) -> StreamState:
    mix = found["mix"] | {"ended": tuple(found["mix"]["ended"])}  # type: ignore[operator, index]
    return StreamState(**found | {"waiting": tuple(found["waiting"]), "mix": MixState(**mix)})  # type: ignore[arg-type]


def _checksums(draft: Path) -> dict[str, str]:
    files = sorted(path for path in draft.rglob("*") if path.is_file())
    return {str(path.relative_to(draft)): file_checksum(path) for path in files}


def _check_weights(folder: Path, files: Mapping[str, str]) -> None:
    for name, checksum in files.items():
        path = folder / name
        if not path.exists() or file_checksum(path) != checksum:
            how = "is not what was written" if path.exists() else "is missing"
            raise DamageError(f"{path} {how}, expected the weights of that step: resume from an earlier step")
