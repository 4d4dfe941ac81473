"""The processes that a launcher has started, `torchrun` or `accelerate launch`, as ranks of one training."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import cast

import torch.distributed as dist
from accelerate import PartialState

from prefkit.errors import RankError, RecipeError
from prefkit.stream.ranks import Alone, Ranks

PATIENCE = timedelta(days=7)
"""So long a rank waits for the others, which may sample meanwhile. The launcher ends them all when one dies."""
MOMENT = timedelta(seconds=10)


class TorchRanks:
    """Ranks that exchange values over gloo, whatever the trainer uses: values lie in the memory of the CPU.

    Raises RankError when another process has gone.
    """

    def __init__(self) -> None:
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()
        self._group = cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=PATIENCE))

    def all_gather(self, value: object) -> list[object]:
        """See Ranks."""
        values: list[object] = [None] * self.size
        with self._present():
            dist.all_gather_object(values, value, group=self._group)
        return values

    def broadcast(self, value: object) -> object:
        """See Ranks."""
        values = [value]
        with self._present():
            dist.broadcast_object_list(values, src=0, group=self._group)
        return values[0]

    @contextmanager
    def _present(self) -> Generator[None]:
        try:
            yield
        except RuntimeError as error:
            raise RankError(
                f"process {self.rank} of {self.size} lost another one: see its error, and go on with --resume"
            ) from error


def opened_ranks() -> Ranks:
    """The processes that train together; TRL's arguments say how they are connected, so they are made before."""
    return TorchRanks() if PartialState().num_processes > 1 else Alone()


def refuse_processes(what: str, command: str) -> None:
    """Raises RecipeError where a launcher has started several processes for what one of them does."""
    if (size := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        raise RecipeError(f"{what} was started by {size} processes, expected one: run `{command}` without a launcher")


def is_first() -> bool:
    """Whether this process is the only one, or the first of those that the launcher has started."""
    return int(os.environ.get("RANK", "0")) == 0


def speaks_for_all() -> bool:
    """Whether this process is the first that asks: a mistake that all of them meet is told once.

    They agree where the launcher keeps a store for them, as torchrun and accelerate do; elsewhere each speaks.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != str(True):
        return True
    place, own = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])), os.environ["RANK"]
    store = dist.TCPStore(*place, is_master=False, timeout=MOMENT)  # pyright: ignore[reportPrivateImportUsage]
    return store.compare_set("prefkit/speaker", "", own).decode() == own
