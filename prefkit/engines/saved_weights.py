"""Weights that a learner has saved: those a sampler held when a run stopped, sent to it again when the run goes on."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError

from prefkit.engines.chat import first_line
from prefkit.engines.weights import tensors_of, weights_digest
from prefkit.errors import DamageError
from prefkit.sampling.weights import PROBE_FILE, Logprobed, read_probe
from prefkit.store.files import fsync_file, fsync_folder


class SavedWeights:
    """The safetensors files of a folder, and the probe beside them; implements `Weights`."""

    def __init__(self, folder: Path) -> None:
        """Raises DamageError when there are no weights."""
        self._folder = folder
        self._files = sorted(folder.glob("*.safetensors"))
        if not self._files:
            raise DamageError(f"{folder} holds no saved weights, expected *.safetensors: restore a copy")

    def digest(self) -> str:
        """That of the learner's weights when they were saved."""
        return weights_digest(self.tensors())

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Read one after the other. Raises DamageError for a file that cannot be read."""
        try:
            yield from tensors_of([str(file) for file in self._files])
        except (OSError, SafetensorError) as error:
            raise DamageError(
                f"weights in {self._folder} cannot be read: {first_line(error)}; restore a copy"
            ) from None

    def save(self, folder: Path) -> None:
        """Copies the files and the probe, durably."""
        folder.mkdir(parents=True, exist_ok=True)
        for file in (*self._files, self._folder / PROBE_FILE):
            fsync_file(Path(shutil.copy(file, folder)))
        fsync_folder(folder)

    def probe(self) -> Logprobed:
        """What the learner said when they were saved. Raises DamageError when nobody wrote that down."""
        return read_probe(self._folder)
