"""What the statistics of shift read: two frames, on one page.

`rows` holds the completions of a version, one line per side of a pair, with their log-probs under the reference model;
`samples` holds the reference's own completions of the same prompts: the yardstick. Nothing else is read, so every
number of a report can be worked out again from these two frames and a seed.

    rows                                             samples
    row             Int64    index of the pair        prompt  Int64    the same numbers as in `rows`
    prompt          Int64    any number per prompt    logps   Float64  log-probs, summed over the completion, in nats
    source          String                            tokens  Int64    completion tokens that `logps` sums over
    side            String   one of SIDES
    logps           Float64  under the reference; null where it could not score the completion
    tokens          Int64    completion tokens that `logps` sums over, as trained
    sampling_logps  Float64  under what it was drawn from, temperature and all, same tokens; null where unknown
    cut             Boolean  whether the longest length cut it
    staleness       Int64    optimizer steps between sampling and training; null where unknown
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from prefkit.errors import SourceError

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]
Booleans: TypeAlias = npt.NDArray[np.bool_]
Side: TypeAlias = Literal["chosen", "rejected", "completion"]

SIDES: tuple[Side, ...] = ("chosen", "rejected", "completion")
"""The halves of a pair, and `completion` for versions without pairs."""

ROWS = pl.Schema(
    {
        "row": pl.Int64,
        "prompt": pl.Int64,
        "source": pl.String,
        "side": pl.String,
        "logps": pl.Float64,
        "tokens": pl.Int64,
        "sampling_logps": pl.Float64,
        "cut": pl.Boolean,
        "staleness": pl.Int64,
    }
)
SAMPLES = pl.Schema({"prompt": pl.Int64, "logps": pl.Float64, "tokens": pl.Int64})


@dataclass(frozen=True, slots=True)
class ShiftData:
    """The two frames, checked: every row and sample has at least one token and a finite log-prob."""

    rows: pl.DataFrame
    samples: pl.DataFrame
    unscored: int
    """Rows that came without a log-prob or without a token. No statistic counts them."""

    @property
    def sides(self) -> tuple[Side, ...]:
        """The sides that have rows, in the order of SIDES."""
        present = set(self.rows["side"].unique())
        return tuple(side for side in SIDES if side in present)

    @property
    def sources(self) -> list[str]:
        """The sources of the rows, sorted."""
        return self.rows["source"].unique().sort().to_list()


def shift_data(rows: pl.DataFrame, samples: pl.DataFrame) -> ShiftData:
    """Checks and casts the two frames, and sets rows without a score aside.

    Raises SourceError when a column or all samples are missing, a side is unknown, no row has a log-prob, or a
    log-prob is no finite number.
    """
    rows, samples = _shaped(rows, ROWS, "rows"), _shaped(samples, SAMPLES, "samples")
    unknown = sorted(set(rows["side"].unique()) - set(SIDES))
    if unknown:
        raise SourceError(f"side is {unknown[0]!r}, expected one of {', '.join(SIDES)}: rename it")
    scored = rows.filter(pl.col("logps").is_not_null() & (pl.col("tokens") > 0))
    samples = samples.filter(pl.col("logps").is_not_null() & (pl.col("tokens") > 0))
    for frame, what in ((scored, "rows"), (samples, "samples")):
        if frame.is_empty():
            raise SourceError(f"{what} have no log-prob, expected one for some at least: score them under the model")
        if not frame["logps"].is_finite().all():
            raise SourceError(f"{what} have log-probs that are no finite numbers: score them in float32")
    return ShiftData(scored, samples, rows.height - scored.height)


def _shaped(frame: pl.DataFrame, schema: Mapping[str, pl.DataType], what: str) -> pl.DataFrame:
    missing = [name for name in schema if name not in frame.columns]
    if missing:
        raise SourceError(f"{what} have no column {missing[0]!r}, expected {', '.join(schema)}: add it")
    return frame.select(pl.col(name).cast(dtype) for name, dtype in schema.items())
