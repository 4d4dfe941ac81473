"""The completions a strategy chooses from, as arrays grouped by prompt.

Rows are sorted by prompt, so every per-prompt quantity is one pass over a column (`reduceat`), and nothing is hashed
or sorted. Random choices are keyed: a completion has an `order`, a number drawn from its key and the seed, and "at
random" always means "the smallest order", which does not depend on other rows.
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


@dataclass(frozen=True, slots=True)
class Completions:
    """Rows of a candidates frame as columns, with the position of each prompt's first row (`starts`) and its rows."""

    frame: pl.DataFrame
    prompt: npt.NDArray[np.uint32]
    candidate: npt.NDArray[np.uint32]
    score: Floats
    key: Words
    seed: int
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
            key=frame["key"].to_numpy(),
            seed=seed,
            starts=starts,
            counts=np.diff(starts, append=len(prompt)),
        )

    def spread(self, per_prompt: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
        """A value per prompt as a value per completion."""
        return np.repeat(per_prompt, self.counts)

    def order(self, rows: Index) -> Words:
        """The random order of the completions at these positions."""
        return mix64(self.key[rows] ^ mix64(np.array([self.seed], np.uint64)))

    def first(self, eligible: Mask) -> Index:
        """Per prompt, the position of the eligible completion that comes first in random order.

        Every prompt must have an eligible completion.
        """
        rows = np.flatnonzero(eligible)
        starts = group_starts(self.prompt[rows])
        return rows[first_of_groups(self.order(rows), starts)]


def first_of_groups(order: Words, starts: Index) -> Index:
    """Per group, the position of the smallest order; of equal orders the first position."""
    lowest = np.minimum.reduceat(order, starts)
    hits = np.flatnonzero(order == np.repeat(lowest, np.diff(starts, append=len(order))))
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
