"""A learner's weights on their way to those that must hold the same ones: samplers, and reference models that follow.

They stay opaque here: only engines and trainers look into them. Whoever took them proves it: the log-probs it gives
for a fixed text, the probe, are compared with the learner's own.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from prefkit.errors import DamageError
from prefkit.sampling.protocol import Sampler

PROBE_FILE = "probe.json"


@dataclass(frozen=True, slots=True)
class Logprobed:
    """A text of tokens and what the weights say of it: how a sync is proved."""

    prompt_ids: Sequence[int]
    completion_ids: Sequence[int]
    logprobs: Sequence[float]
    """Per token of the completion, at T = 1 over the full vocabulary, in nats."""


class Weights(Protocol):
    """A learner's weights as they are now; every method reads them anew."""

    def digest(self) -> str:
        """Hex digest of every tensor's name, shape, dtype and bytes."""
        ...

    def tensors(self) -> Iterable[tuple[str, object]]:
        """Names as in the checkpoint, and tensors."""
        ...

    def save(self, folder: Path) -> None:
        """Writes them as safetensors, durably."""
        ...

    def probe(self) -> Logprobed:
        """A fixed long text, scored under them."""
        ...


class SyncedSampler(Sampler, Protocol):
    """A sampler that follows a policy in training."""

    def sync(self, weights: Weights, policy_version: int) -> float:
        """From now on draws come from a copy of these weights, as this version.

        Returns by how much its log-probs of the probe differ from the given ones, at most. Raises SyncError when draws
        are under way or the weights are not those of its model, which changes nothing, and when it does not say what
        they say: then nothing is sampled until a sync succeeds.
        """
        ...


def write_probe(probe: Logprobed, folder: Path) -> None:
    """Puts the probe beside saved weights, so that they can be sent again when their learner has gone on."""
    (folder / PROBE_FILE).write_text(json.dumps({name: list(values) for name, values in asdict(probe).items()}))


def read_probe(folder: Path) -> Logprobed:
    """What `write_probe` wrote, to the last bit. Raises DamageError when that cannot be read."""
    file = folder / PROBE_FILE
    try:
        return Logprobed(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise DamageError(f"{file} cannot be read as the probe of saved weights: {error}; restore a copy") from None
