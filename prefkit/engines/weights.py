"""A learner's tensors: their digest, and whether they fit what a model expects, or nothing is changed at all."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import TypeAlias, cast

import torch
from safetensors import safe_open

from prefkit.errors import SyncError

Layout: TypeAlias = Mapping[str, tuple[int, ...]]
"""The shape of every weight by name."""


def fitting(
    weights: Iterable[tuple[str, object]], expected: Layout, subject: str = "sampler"
) -> dict[str, torch.Tensor]:
    """The tensors of exactly the expected names and shapes, still in the learner's memory where they were.

    One that only repeats another under a further name, as a tied head does, is left out. Raises SyncError, naming
    whoever expects them as `subject`, when a weight is missing, unknown or of another shape.
    """
    held: dict[str, torch.Tensor] = {}
    repeated: dict[str, torch.Tensor] = {}
    for name, tensor in weights:
        (held if name in expected else repeated)[name] = cast(torch.Tensor, tensor).detach()
    for name, tensor in repeated.items():
        if not any(_are_equal(tensor, other) for other in held.values()):
            held[name] = tensor
    require_layout({name: tuple(tensor.shape) for name, tensor in held.items()}, expected, subject)
    return held


def tensors_of(files: Sequence[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """The names and tensors of safetensors files, one in memory at a time."""
    for file in files:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118  it is no mapping
                yield name, opened.get_tensor(name)


def weights_digest(weights: Iterable[tuple[str, torch.Tensor]]) -> str:
    """32 hex digits of names, shapes, number formats and bytes, whatever their order and the devices they are on."""
    parts = sorted(f"{name} {tensor.dtype} {list(tensor.shape)} {_bytes_digest(tensor)}" for name, tensor in weights)
    return blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def _bytes_digest(tensor: torch.Tensor) -> str:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return blake2b(flat.view(torch.uint8).numpy().data, digest_size=16).hexdigest()


def require_layout(got: Layout, expected: Layout, subject: str = "sampler") -> None:
    """Raises SyncError for the first name that is not in both with the same shape."""
    for name in sorted(got.keys() | expected.keys()):
        if got.get(name) != expected.get(name):
            raise SyncError(
                f"weight {name!r}: got {_shape(got, name)}, expected {_shape(expected, name)} as in the {subject}'s "
                f"policy; sync weights of the same model, under the names of its checkpoint"
            )


def _are_equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    alike = one.shape == other.shape and one.dtype == other.dtype
    return alike and torch.equal(one, other.to(one.device))


def _shape(shapes: Layout, name: str) -> str:
    return f"shape {list(shapes[name])}" if name in shapes else "none"
