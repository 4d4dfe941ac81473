"""Weights on their way to vLLM: files that its workers read, checked against the policy before the engine sees them.

A reload that fails half way leaves an engine with neither the old weights nor the new ones, so names and shapes are
compared first. On one machine the files lie in memory (`/dev/shm`).
"""

import tempfile
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from prefkit.engines.chat import first_line
from prefkit.errors import SyncError

WeightsSource: TypeAlias = Path | Iterable[tuple[str, torch.Tensor]]
"""Weights under the names of their checkpoint: a folder with safetensors, or names and tensors one after the other."""
Layout: TypeAlias = Mapping[str, tuple[int, ...]]
"""The shape of every weight by name."""

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
def weight_files(weights: WeightsSource, expected: Layout, shared: Path | None = None) -> Generator[list[str]]:
    """Paths of safetensors files with exactly the expected weights, there as long as the context lasts.

    Tensors are written to `shared`, a folder that the engine sees too: memory by default. They are held once in this
    process and once there. Raises SyncError when a weight is missing, unknown or of another shape.
    """
    if isinstance(weights, Path):
        _require_equal(layout(weights), expected)
        yield [str(file.resolve()) for file in sorted(weights.glob("*.safetensors"))]
        return
    held = _without_ties(weights, expected)
    _require_equal({name: tuple(tensor.shape) for name, tensor in held.items()}, expected)
    place = shared or (MEMORY if MEMORY.is_dir() else None)
    with tempfile.TemporaryDirectory(prefix="prefkit-weights-", dir=place) as folder:
        file = Path(folder) / "model.safetensors"
        try:
            save_file(held, file)
        except (OSError, SafetensorError) as error:
            raise SyncError(f"weights cannot be written to {folder!r}: {first_line(error)}; make room") from None
        yield [str(file)]


def _without_ties(weights: Iterable[tuple[str, torch.Tensor]], expected: Layout) -> dict[str, torch.Tensor]:
    """The tensors, each in memory of its own; one that only repeats another, as a tied head does, is left out."""
    held: dict[str, torch.Tensor] = {}
    repeated: dict[str, torch.Tensor] = {}
    for name, tensor in weights:
        (held if name in expected else repeated)[name] = tensor.detach().cpu().contiguous().clone()
    for name, tensor in repeated.items():
        if not any(tensor.shape == other.shape and torch.equal(tensor, other) for other in held.values()):
            held[name] = tensor
    return held


def _require_equal(got: Layout, expected: Layout) -> None:
    for name in sorted(got.keys() | expected.keys()):
        if got.get(name) != expected.get(name):
            raise SyncError(
                f"weight {name!r}: got {_shape(got, name)}, expected {_shape(expected, name)} as in the sampler's "
                f"policy; sync weights of the same model, under the names of its checkpoint"
            )


def _shape(shapes: Layout, name: str) -> str:
    return f"shape {list(shapes[name])}" if name in shapes else "none"
