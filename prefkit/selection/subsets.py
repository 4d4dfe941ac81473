"""Subset strategies: which completions are in the dataset, each on its own rather than against another."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from prefkit.selection.completions import Completions, Index, Mask, group_ranks
from prefkit.selection.config import DECIMALS, RewardWeights, SubsetConfig, Threshold, TopKOverall, TopKPerPrompt
from prefkit.selection.outcomes import ROW_CODE, Codes, RowOutcome, failing, group_starts


@dataclass(frozen=True, slots=True)
class Subset:
    """An outcome per completion, and the label or weight the strategy gives it (null where it gives none)."""

    codes: Codes
    label: pl.Series | None = None
    weight: pl.Series | None = None


def subset(completions: Completions, config: SubsetConfig) -> Subset:
    """The outcome of every completion, before the cap per source."""
    match config:
        case TopKPerPrompt():
            return _top_k_per_prompt(completions, config)
        case TopKOverall():
            return _top_k_overall(completions, config)
        case Threshold():
            return _threshold(completions, config)
        case RewardWeights():
            return _reward_weights(completions, config)


def _top_k_per_prompt(completions: Completions, config: TopKPerPrompt) -> Subset:
    codes, rows = _eligible(completions, config.min_score)
    starts = group_starts(completions.prompt[rows])
    counts = np.diff(starts, append=len(rows))
    ranks = group_ranks(starts, counts, -completions.score[rows], completions.order(rows))
    codes[rows[ranks < config.k]] = ROW_CODE[RowOutcome.SELECTED]
    return Subset(codes)


def _top_k_overall(completions: Completions, config: TopKOverall) -> Subset:
    codes, rows = _eligible(completions, config.min_score)
    score = completions.score[rows]
    if len(rows) > config.k:
        last = np.partition(score, len(rows) - config.k)[len(rows) - config.k]
        above, tied = np.flatnonzero(score > last), np.flatnonzero(score == last)
        in_order = tied[np.argsort(completions.order(rows[tied]), kind="stable")]
        rows = rows[np.concatenate([above, in_order[: config.k - len(above)]])]
    codes[rows] = ROW_CODE[RowOutcome.SELECTED]
    return Subset(codes)


def _eligible(completions: Completions, min_score: float | None) -> tuple[Codes, Index]:
    """Every completion that could be selected as `not_selected`, and where these are."""
    codes = _scored_as(RowOutcome.NOT_SELECTED, completions)
    if min_score is not None:
        np.minimum(codes, failing(completions.score < min_score, RowOutcome.BELOW_SCORE), out=codes)
    return codes, np.flatnonzero(codes == ROW_CODE[RowOutcome.NOT_SELECTED])


def _threshold(completions: Completions, config: Threshold) -> Subset:
    codes = _scored_as(RowOutcome.SELECTED, completions)
    desirable = completions.score >= config.desirable_at
    if config.undesirable_at is None:
        undesirable = completions.score < config.desirable_at
    else:
        undesirable = completions.score <= config.undesirable_at
    labelled = desirable | undesirable
    np.minimum(codes, failing(~labelled, RowOutcome.BETWEEN_THRESHOLDS), out=codes)
    return Subset(codes, label=_where(labelled, pl.Series(desirable)))


def _reward_weights(completions: Completions, config: RewardWeights) -> Subset:
    codes = _scored_as(RowOutcome.SELECTED, completions)
    scored = ~np.isnan(completions.score)
    score = np.where(scored, completions.score, -np.inf)
    best = np.maximum.reduceat(score, completions.starts)
    # Prompts without a score have the best score -inf; 0 instead keeps -inf - -inf out of the exponent.
    gap = score - completions.spread(np.where(np.isfinite(best), best, 0.0))
    raw = np.exp(gap / config.temperature)
    total = np.add.reduceat(raw, completions.starts)
    weight = raw / completions.spread(np.where(total > 0, total, 1.0))
    return Subset(codes, weight=_where(scored, pl.Series(weight.round(DECIMALS))))


def _scored_as(outcome: RowOutcome, completions: Completions) -> Codes:
    unscored = failing(np.isnan(completions.score), RowOutcome.UNSCORED)
    return np.minimum(unscored, np.uint8(ROW_CODE[outcome]))


def _where(known: Mask, values: pl.Series) -> pl.Series:
    return pl.select(pl.when(pl.Series(known)).then(values)).to_series()
