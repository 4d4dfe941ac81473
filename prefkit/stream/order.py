"""The order of a run: which prompts it takes, epoch after epoch, and how a replay shuffles its rows.

Places in an order are sorted by a hash of where they stand, so an order depends on the seed alone: not on how much of
it is asked for at once, on numpy's generators, or on what was drawn before.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from prefkit.identity import hash128

Places = npt.NDArray[np.int64]

_SHUFFLE = 2**64 - 1
"""Stands where the epoch does in an order of prompts."""


def prompt_places(n: int, seed: int, cursor: int, count: int) -> tuple[Places, Places]:
    """Which of `n` prompts come next after `cursor` of them, and the epoch each is in; both of shape [count].

    Every epoch is a permutation of its own, each prompt once.
    """
    if n < 1:
        raise ValueError("there are no prompts to order, expected at least one")
    epochs, within = np.divmod(np.arange(cursor, cursor + count, dtype=np.int64), n)
    places = np.empty(count, np.int64)
    for epoch in range(int(epochs[0]), int(epochs[-1]) + 1) if count else ():
        now = epochs == epoch
        places[now] = _epoch(n, seed, epoch)[within[now]]
    return places, epochs


def shuffled(rows: Places, window: int | None, seed: int) -> Places:
    """The row numbers, each window of consecutive ones in an order of its own; None is one window over them all.

    No row leaves its window, so it moves by less than `window` places; 1 leaves all where they are.
    """
    if window is not None and window < 1:
        raise ValueError(f"window is {window}, expected at least 1")
    windows = np.arange(len(rows)) // (window or max(1, len(rows)))
    return rows[np.lexsort((_hashes(seed, _SHUFFLE, rows), windows))]


@lru_cache(maxsize=4)  # two sources in a mix, each at the turn of an epoch
def _epoch(n: int, seed: int, epoch: int) -> Places:
    places = np.arange(n, dtype=np.int64)
    order = np.argsort(_hashes(seed, epoch, places), kind="stable")
    order.flags.writeable = False
    return order


def _hashes(seed: int, order: int, places: Places) -> npt.NDArray[np.uint64]:
    whose = np.broadcast_to(np.array([seed, order], np.uint64), (len(places), 2))
    return hash128(np.concatenate([whose, places.astype(np.uint64)[:, None]], axis=1))[:, 0]
