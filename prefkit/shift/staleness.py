"""How old a run's rows were when they were trained on, in optimizer steps."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True, slots=True)
class Staleness:
    """A histogram of whole steps."""

    counts: Mapping[int, int]
    """Rows by staleness, ascending."""
    unknown: int
    """Rows without one: they were not sampled in a run."""

    @property
    def mean(self) -> float:
        """Over the rows that have one; NaN without any."""
        rows = sum(self.counts.values())
        return sum(steps * count for steps, count in self.counts.items()) / rows if rows else float("nan")


def staleness(steps: pl.Series) -> Staleness:
    """Counts each value; nulls are unknown."""
    counted = steps.drop_nulls().alias("steps").value_counts().sort("steps")
    return Staleness(dict(counted.iter_rows()), steps.null_count())
