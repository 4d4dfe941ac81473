"""What a run keeps on the disk so that it can go on: a state per checkpoint, and weights between two syncs.

A checkpoint that falls between two syncs needs the weights that the sampler holds, and the learner has moved on. They
are written when they are sent, and only when a checkpoint will fall before the next ones are; a state then takes them
in as links, so they are on the disk once.
"""

import os
from collections.abc import Callable
from pathlib import Path

from prefkit.sampling.weights import write_probe
from prefkit.store.files import disk_trouble, remove_tree
from prefkit.stream.protocol import Weights
from prefkit.stream.state import MODELS, SaveWeights, StreamState, complete_steps, prune, state_folder, write_state

SavesAt = Callable[[int], bool]
"""Whether the trainer writes a checkpoint after this step."""


class Keeper:
    """Keeps what a run needs in `folder`, its `stream` folder."""

    def __init__(self, folder: Path, saves_at: SavesAt) -> None:
        self._folder = folder
        self._kept = {model: KeptWeights(folder / model, saves_at) for model in MODELS}

    def sent(self, model: str, weights: Weights, version: int, period: float | None) -> None:
        """A model, sampler or reference, got the weights of this version; others come so many steps later."""
        self._kept[model].sent(weights, version, period)

    def save(self, state: StreamState) -> None:
        """Writes the state. Weights of the learner's own step are in its checkpoint, older ones are in the state."""
        sampler, reference = (self._kept[model].saver(state.version_of(model)) for model in MODELS)
        write_state(self._folder, state, sampler, reference)

    def saved(self, step: int) -> None:
        """States stay as long as the trainer's checkpoint of their step does."""
        run = self._folder.parent
        kept = {s for s in complete_steps(self._folder) if s == step or (run / f"checkpoint-{s}").exists()}
        prune(self._folder, kept)

    def resumed(self, model: str, state: StreamState) -> Path | None:
        """Where the weights are that this state holds for the model; None when they are the learner's own."""
        place = state_folder(self._folder, state.step) / model
        if not place.exists():
            return None
        self._kept[model].resumed(place, state.version_of(model))
        return place


class KeptWeights:
    """The weights that one model holds, sampler or reference, kept in `folder` while a checkpoint may need them."""

    def __init__(self, folder: Path, saves_at: SavesAt) -> None:
        self._folder = folder
        self._saves_at = saves_at
        self._version: int | None = None

    def sent(self, weights: Weights, version: int, period: float | None) -> None:
        """The model got the weights of this version, and gets others so many steps later (None: never)."""
        self._version = None
        with disk_trouble(self._folder):
            remove_tree(self._folder)
            if are_needed(version, period, self._saves_at):
                self._folder.mkdir(parents=True)
                weights.save(self._folder)
                write_probe(weights.probe(), self._folder)
                self._version = version

    def resumed(self, folder: Path, version: int) -> None:
        """The model got the weights of this version back from a state's folder."""
        with disk_trouble(self._folder):
            remove_tree(self._folder)
            _link(folder, self._folder)
        self._version = version

    def saver(self, version: int) -> SaveWeights | None:
        """What puts the weights of this version into a state, or None when they are not kept."""
        return None if self._version != version else lambda target: _link(self._folder, target)


def are_needed(version: int, period: float | None, saves_at: SavesAt) -> bool:
    """Whether a checkpoint falls after this version and before the next one, `period` steps later (None: never)."""
    last = version + 1 if period is None else version + int(period)
    return any(saves_at(step) for step in range(version + 1, last))


def _link(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        os.link(file, target / file.name)
