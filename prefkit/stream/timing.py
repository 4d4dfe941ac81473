"""Where the time of a process goes while it trains: to draws, to syncs, and for the rest to the trainer.

The stages of a draw say themselves how long they took. So time adds up: a step takes draw + sync + train, and a draw
takes its stages and what is between them.
"""

import time
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager

DRAW, SYNC, TRAIN, OTHER = "draw", "sync", "train", "other"
SECONDS, SHARE = "stream/seconds/", "stream/time/"


class WallTime:
    """Adds up until it is taken."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Time counts from now on."""
        self._since = time.perf_counter()
        self._spent = Counter[str]()

    @contextmanager
    def during(self, what: str) -> Generator[None]:
        """The time of the block goes to this."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._spent[what] += time.perf_counter() - start  # type: ignore[assignment]  # a Counter adds any numbers

    def take(self) -> dict[str, float]:
        """Seconds since the last time by what they were spent on; TRAIN is what is left: forward and backward passes,
        the optimizer, checkpoints.
        """
        spent = {what: float(self._spent[what]) for what in (DRAW, SYNC)}
        whole = time.perf_counter() - self._since
        self.begin()
        return {**spent, TRAIN: whole - sum(spent.values())}


def time_shares(metrics: Mapping[str, float]) -> dict[str, float]:
    """The shares of the time that the stages of draws, syncs and training took, from the metrics of seconds.

    They add up to 1: OTHER is what of the draws no stage took, as selection and the recording. Where several processes
    draw, a stage has its time per process, and OTHER the waiting. Empty without seconds.
    """
    seconds = {name.removeprefix(SECONDS): value for name, value in metrics.items() if name.startswith(SECONDS)}
    if not {DRAW, SYNC, TRAIN} <= seconds.keys():
        return {}
    draw = seconds.pop(DRAW)
    seconds[OTHER] = max(0.0, draw - sum(value for what, value in seconds.items() if what not in (SYNC, TRAIN)))
    whole = sum(seconds.values())
    return {f"{SHARE}{what}": value / whole for what, value in seconds.items()} if whole > 0 else {}
