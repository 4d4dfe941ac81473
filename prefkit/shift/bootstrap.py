"""Intervals by prompt: what a statistic would have been on other prompts of the same kind.

Completions of one prompt resemble each other, so rows are not independent and an interval over rows is too narrow.
The cluster bootstrap draws prompts with replacement, each with all its rows (Davison and Hinkley 1997, section 3.8).
Every statistic here is a function of sums over rows, so a resample is a vector of how often each prompt was drawn, and
all statistics of all resamples are one product of two matrices: draws x sums per prompt.

More than BUNDLES prompts are first bundled at random, and bundles are drawn: they are independent of each other as
prompts are, so intervals stay what they are, and cost no more for a million prompts than for thousands.

The same seed and number of prompts give the same draws, so estimates made one by one can be compared with each other.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from prefkit.shift.data import Floats, Integers
from prefkit.shift.per_prompt import counted, summed

BUNDLES = 4000
CELLS = 4_000_000
"""Most cells of a matrix of draws: 32 MB."""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How intervals are made."""

    resamples: int = 1000
    seed: int = 0
    level: float = 0.95
    """Share of intervals that hold the true value, nominally."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its uncertainty. NaN stands for what the data cannot tell."""

    value: float
    se: float
    """Standard error: standard deviation over the resamples."""
    low: float
    high: float
    rows: int
    """How many rows it rests on."""
    prompts: int
    """How many prompts they belong to."""


@dataclass(frozen=True, slots=True)
class Resampled:
    """A statistic on the data, and on each resample. Differences of two, made alike, keep what they share."""

    value: float
    draws: Floats
    """Shape (resamples,); NaN where a resample holds no row that counts."""
    rows: int
    prompts: int

    def __sub__(self, other: "Resampled") -> "Resampled":
        """The difference; both must come from the same prompts and seed."""
        rows, prompts = min(self.rows, other.rows), min(self.prompts, other.prompts)
        return Resampled(self.value - other.value, self.draws - other.draws, rows, prompts)

    def estimate(self, level: float) -> Estimate:
        """The percentile interval; without one where there are fewer than two prompts."""
        low, high = self._quantiles(level)
        return Estimate(self.value, self._error(), low, high, self.rows, self.prompts)

    def share(self, level: float) -> Estimate:
        """The percentile interval of a share.

        Of 0 or all no resample knows better, so the far end is the exact binomial one (Clopper and Pearson 1934) for
        as many independent rows as there are prompts: 0 of 60 may be up to 6 %.
        """
        plain = self.estimate(level)
        far = ((1 - level) / 2) ** (1 / self.prompts) if self.prompts else np.nan
        if self.value == 0:
            return Estimate(0.0, 0.0, 0.0, 1 - far, self.rows, self.prompts)
        if self.value == 1:
            return Estimate(1.0, 0.0, far, 1.0, self.rows, self.prompts)
        return plain

    def _quantiles(self, level: float) -> tuple[float, float]:
        if self.prompts < 2:
            return np.nan, np.nan
        low, high = np.nanquantile(self.draws, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def _error(self) -> float:
        return float(np.nanstd(self.draws)) if self.prompts > 1 else np.nan


@dataclass(frozen=True, slots=True)
class Column:
    """A number of some rows, NaN where it is unknown, and the prompts they belong to."""

    values: Floats
    prompts: Integers


def resampled_means(columns: Mapping[str, Column], bootstrap: Bootstrap) -> dict[str, Resampled]:
    """The mean of each column over what it knows; a column that knows nothing is left out.

    The columns share their resamples: where a prompt was drawn twice for one, it was drawn twice for all.
    """
    known = {name: ~np.isnan(column.values) for name, column in columns.items()}
    columns = {name: Column(c.values[known[name]], c.prompts[known[name]]) for name, c in columns.items()}
    columns = {name: column for name, column in columns.items() if len(column.values)}
    if not columns:
        return {}
    own = [np.unique(c.prompts) for c in columns.values()]
    prompts = np.unique(np.concatenate(own))
    bundle = bundles(len(prompts), bootstrap.seed)
    codes = [bundle[np.searchsorted(prompts, c.prompts)] for c in columns.values()]
    sums = [summed(c.values, at, bundle.max() + 1) for at, c in zip(codes, columns.values(), strict=True)]
    counts = [counted(at, bundle.max() + 1) for at in codes]
    totals = resampled_totals(np.column_stack([*sums, *counts]), bootstrap)
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = totals[:, : len(sums)] / totals[:, len(sums) :]
    return {
        name: Resampled(float(column.values.mean()), draws[:, k], len(column.values), len(own[k]))
        for k, (name, column) in enumerate(columns.items())
    }


def bundles(prompts: int, seed: int) -> Integers:
    """The bundle of each prompt, numbered from 0; sizes differ by one at most. Up to BUNDLES each has its own."""
    if prompts <= BUNDLES:
        return np.arange(prompts)
    return np.random.default_rng([seed, prompts]).permutation(prompts) % BUNDLES


def resampled_totals(sums: Floats, bootstrap: Bootstrap) -> Floats:
    """Column totals of each resample, shape (resamples, columns), from the sums per bundle, (bundles, columns)."""
    return np.concatenate([drawn @ sums for drawn in _draws(len(sums), bootstrap)])


def _draws(prompts: int, bootstrap: Bootstrap) -> Iterator[Floats]:
    """How often each prompt was drawn, shape (some resamples, prompts), a few resamples at a time."""
    generator = np.random.default_rng(bootstrap.seed)
    for start in range(0, bootstrap.resamples, step := max(1, CELLS // prompts)):
        size = min(step, bootstrap.resamples - start)
        drawn = generator.integers(0, prompts, (size, prompts), dtype=np.int32)
        cells = (drawn + np.arange(size)[:, None] * prompts).ravel()
        yield np.bincount(cells, minlength=size * prompts).reshape(size, prompts).astype(np.float64)
