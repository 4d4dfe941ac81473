"""What shift says about each row: a frame to select by, to sort by, and to look at.

A statistic of a version is a mean or a distribution of one of these columns, so every number of a report can be
followed to the rows that made it.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from prefkit.shift.data import ShiftData
from prefkit.shift.divergence import log_ratios
from prefkit.shift.likelihood import nll_gap, nll_per_token
from prefkit.shift.support import NOMINAL, OwnRange, Tokens, surprises

PER_SIDE = ("nll", "nll_gap", "surprise", "off_support", "too_likely", "log_ratio", "logps", "tokens", "cut")
"""Columns that a pair has twice."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Rows and the reference's own samples with what was worked out about each."""

    rows: pl.DataFrame
    """The columns of ROWS, in its order of rows, and

    nll             NLL per token, in nats
    nll_gap         less the mean of the reference's own samples of the prompt; null where it has none
    surprise        standard deviations above what the reference writes at this length on this prompt
    off_support     whether that is above the reference's own range
    too_likely      whether that is below it
    log_ratio       log-prob under the reference less that under the behaviour policy, in nats; null where unknown
    residual        the NLL per token standardised for length alone
    """
    samples: pl.DataFrame
    """The columns of SAMPLES, and nll, surprise and residual."""
    own_range: OwnRange

    def by_row(self) -> pl.DataFrame:
        """One line per row: `row`, and the columns of each side as `chosen_nll`, `rejected_surprise` and so on.

        The log-probs are called as in a version: `ref_chosen_logps`, and `ref_logps` of single completions.
        """
        wide = self.rows.pivot(on="side", index="row", values=list(PER_SIDE), maintain_order=True)
        sides: list[str] = self.rows["side"].unique(maintain_order=True).to_list()
        return wide.rename({f"{name}_{side}": _named(side, name) for side in sides for name in PER_SIDE})


def _named(side: str, name: str) -> str:
    if name != "logps":
        return f"{side}_{name}"
    return "ref_logps" if side == "completion" else f"ref_{side}_logps"


def row_scores(data: ShiftData, *, nominal: float = NOMINAL, seed: int = 0) -> Scores:
    """Scores every row and sample. Raises SourceError when there are too few samples for a range."""
    rows, samples = _tokens(data.rows), _tokens(data.samples)
    found = surprises(rows, samples, nominal=nominal, seed=seed)
    gap = nll_gap(rows.nll, rows.prompts, samples.nll, samples.prompts)
    ratio = log_ratios(data.rows["logps"].to_numpy(), data.rows["sampling_logps"].to_numpy())
    scored = data.rows.with_columns(
        pl.Series("nll", rows.nll),
        pl.Series("nll_gap", gap).fill_nan(None),
        pl.Series("surprise", found.rows),
        pl.Series("off_support", found.own_range.off_support(found.rows)),
        pl.Series("too_likely", found.own_range.too_likely(found.rows)),
        pl.Series("log_ratio", ratio).fill_nan(None),
        pl.Series("residual", found.row_residuals),
    )
    own = data.samples.with_columns(
        pl.Series("nll", samples.nll),
        pl.Series("surprise", found.samples),
        pl.Series("residual", found.sample_residuals),
    )
    return Scores(scored, own, found.own_range)


def _tokens(frame: pl.DataFrame) -> Tokens:
    logps, tokens = frame["logps"].to_numpy(), frame["tokens"].to_numpy()
    return Tokens(nll_per_token(logps, tokens), tokens, frame["prompt"].to_numpy().astype(np.int64))
