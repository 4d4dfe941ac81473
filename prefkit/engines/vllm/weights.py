"""Weights on their way to vLLM: files that its workers read.

A reload that fails half way leaves an engine with neither the old weights nor the new ones, so names and shapes are
compared first (`weights`). On one machine the files lie in memory (`/dev/shm`).
"""

import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from prefkit.engines.chat import first_line
from prefkit.errors import SyncError

MEMORY = Path("/dev/shm")  # noqa: S108  a folder of its own is made in it


def layout(folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a model folder's weights. Raises SyncError when it holds no readable safetensors."""
    shapes: dict[str, tuple[int, ...]] = {}
    try:
        for file in sorted(folder.glob("*.safetensors")):
            with safe_open(file, framework="pt") as opened:
                shapes |= {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise SyncError(f"weights in {str(folder)!r} cannot be read: {first_line(error)}; save them again") from None
    if not shapes:
        raise SyncError(f"weights in {str(folder)!r}: got none, expected *.safetensors; save the model as safetensors")
    return shapes


@contextmanager
def weight_files(weights: Mapping[str, torch.Tensor], place: Path | None = None) -> Generator[list[str]]:
    """Paths of safetensors files with these weights, there as long as the context lasts.

    They are written to `place`, a folder that the engine sees too: memory by default. Copies are held once in this
    process and once there. Raises SyncError when there is no room.
    """
    place = place or (MEMORY if MEMORY.is_dir() else None)
    try:
        folder = tempfile.TemporaryDirectory(prefix="prefkit-weights-", dir=place)
    except OSError as error:
        raise SyncError(f"weights cannot be written to {str(place)!r}: {first_line(error)}") from None
    with folder as opened:
        file = Path(opened) / "model.safetensors"
        try:
            save_file({name: tensor.to("cpu", copy=True).contiguous() for name, tensor in weights.items()}, file)
        except (OSError, SafetensorError) as error:
            raise SyncError(
                f"weights cannot be written to {opened!r}: {first_line(error)}; make room, or name another folder as "
                f"`sample.weights_folder`"
            ) from None
        yield [str(file)]
