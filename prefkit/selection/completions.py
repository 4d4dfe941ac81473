"""The completions a strategy chooses from, as arrays grouped by prompt.

Rows are sorted by prompt, so every per-prompt quantity is one pass over a column (`reduceat`), and nothing is hashed
or sorted. Random choices are keyed: each completion has an `order`, a number drawn from its key and the seed, and
"at random" always means "the smallest order", which does not depend on other rows.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from prefkit.identity import Words, mix64
from prefkit.selection.outcomes import group_starts

Index = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_Scalar = TypeVar("_Scalar", bound=np.generic)
_LAST = np.uint64(2**64 - 1)


@dataclass(frozen=True, slots=True)
class Completions:
    """Rows of a candidates frame as columns, with the position of each prompt's first row (`starts`) and its rows."""

    frame: pl.DataFrame
    prompt: npt.NDArray[np.uint32]
    candidate: npt.NDArray[np.uint32]
    score: Floats
    order: Words
    starts: Index
    counts: Index

    @classmethod
    def of(cls, frame: pl.DataFrame, seed: int) -> "Completions":
        """The rows of `frame`, which is sorted by prompt; a missing score is NaN."""
        prompt = frame["prompt"].to_numpy()
        starts = group_starts(prompt)
        return cls(
            frame=frame,
            prompt=prompt,
            candidate=frame["candidate"].to_numpy(),
            score=frame["score"].fill_null(float("nan")).to_numpy(),
            order=mix64(frame["key"].to_numpy() ^ mix64(np.array([seed], np.uint64))),
            starts=starts,
            counts=np.diff(starts, append=len(prompt)),
        )

    def spread(self, per_prompt: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
        """A value per prompt as a value per completion."""
        return np.repeat(per_prompt, self.counts)

    def first(self, eligible: Mask) -> Index:
        """Per prompt, the position of the eligible completion that comes first in random order.

        Every prompt must have an eligible completion.
        """
        return first_of_groups(np.where(eligible, self.order, _LAST), eligible, self.starts, self.counts)


def first_of_groups(order: Words, eligible: Mask, starts: Index, counts: Index) -> Index:
    """Per group, the position of the smallest order among the eligible; of equal orders the first position."""
    lowest = np.minimum.reduceat(order, starts)
    hits = np.flatnonzero(eligible & (order == np.repeat(lowest, counts)))
    group = np.searchsorted(starts, hits, side="right")
    return hits[np.diff(group, prepend=0) > 0]


def group_ranks(starts: Index, counts: Index, *keys: npt.NDArray[np.generic]) -> Index:
    """The rank, from 0, of each row within its group in ascending order of the keys; full ties keep their order.

    Groups of one size are sorted together, as the rows of a matrix: three times faster than one sort over all.
    """
    ranks = np.empty(len(keys[0]), np.intp)
    for size in np.unique(counts):
        rows = starts[counts == size, None] + np.arange(size)
        by_rank = np.lexsort([key[rows] for key in reversed(keys)], axis=-1)
        ranks[np.take_along_axis(rows, by_rank, axis=-1)] = np.arange(size)
    return ranks
