"""How far apart two samples of a number are, such as lengths: KS and Wasserstein-1; and how well it tells them apart.

All three are functions of the two cumulative distributions F (rows) and G (the reference's own samples):

    KS             max |F - G|                 the largest difference in share; from 0 to 1
    Wasserstein-1  integral of |F - G|         how far, on average, values would have to move; in the values' unit
    AUC            P(row > sample) + P(=) / 2  0.5 when the number tells nothing (Mann and Whitney 1947)

Values are exact. Their resamples are worked out on at most `BINS` bins of equal share, so that a resample costs no
sorting.

A distance is never negative, and noise only adds to it, so the percentiles of its resamples miss the truth when the
truth is near 0. Its interval is made of how far the difference F - G itself moves when prompts are drawn anew: by the
triangle inequality the distance is off by no more than the length of that movement. Such an interval is wide rather
than wrong, and starts at 0 where the two cannot be told apart.
"""

from dataclasses import dataclass, replace

import numpy as np

from prefkit.shift.bootstrap import Bootstrap, Estimate, Resampled, bundles, resampled_totals
from prefkit.shift.data import Floats, Integers
from prefkit.shift.per_prompt import counted, summed

BINS = 128


@dataclass(frozen=True, slots=True)
class Distances:
    """Rows against the reference's own samples."""

    ks: Estimate
    wasserstein: Estimate
    auc: Estimate


def distances(
    values: Floats, prompts: Integers, sample_values: Floats, sample_prompts: Integers, bootstrap: Bootstrap
) -> Distances:
    """The three distances with intervals by prompt. Neither side may be empty."""
    pooled, is_row = np.concatenate([values, sample_values]), np.arange(len(values) + len(sample_values)) < len(values)
    support, places = np.unique(pooled, return_inverse=True)
    exact = counted(places + is_row * len(support), 2 * len(support))[None]
    known, codes = np.unique(np.concatenate([prompts, sample_prompts]), return_inverse=True)
    centres, bins = _binned(pooled)
    bundle = bundles(len(known), bootstrap.seed)
    cells = (bundle[codes] * 2 + is_row) * len(centres) + bins
    per_prompt = counted(cells, (bundle.max() + 1) * 2 * len(centres)).reshape(bundle.max() + 1, -1)
    observed = _differences(per_prompt.sum(axis=0, keepdims=True), len(centres))
    resampled = _differences(resampled_totals(per_prompt, bootstrap), len(centres))
    both = int(np.isin(np.unique(prompts), np.unique(sample_prompts)).sum())
    (ks,), (wasserstein,), (ahead,) = _compared(_differences(exact, len(support)), support)
    draws = _compared(resampled, centres)
    moved = _compared(Differences(resampled.apart - observed.apart, resampled.ahead), centres)
    wide = [float(np.nanquantile(by, bootstrap.level)) if both > 1 else np.nan for by in moved[:2]]
    return Distances(
        _around(Resampled(float(ks), draws[0], len(values), both).estimate(bootstrap.level), wide[0]),
        _around(Resampled(float(wasserstein), draws[1], len(values), both).estimate(bootstrap.level), wide[1]),
        Resampled(float(ahead), draws[2], len(values), both).estimate(bootstrap.level),
    )


def auc(values: Floats, sample_values: Floats) -> float:
    """Chance that a value exceeds one of the samples, plus half of that of a tie."""
    support, places = np.unique(np.concatenate([values, sample_values]), return_inverse=True)
    is_row = np.arange(len(places)) < len(values)
    counts = counted(places + is_row * len(support), 2 * len(support))[None]
    return float(_differences(counts, len(support)).ahead[0])


def _binned(values: Floats) -> tuple[Floats, Integers]:
    """Means of at most BINS bins of equal share, ascending, and which bin each value lies in. Ties stay together."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1], method="inverted_cdf"))
    _, bins = np.unique(np.searchsorted(edges, values), return_inverse=True)
    return summed(values, bins) / counted(bins), bins.astype(np.int64)


@dataclass(frozen=True, slots=True)
class Differences:
    """F - G at each value, one line per resample, and the AUC of each line."""

    apart: Floats
    ahead: Floats


def _differences(counts: Floats, values: int) -> Differences:
    """From lines of counts: samples by value, then rows by value."""
    with np.errstate(invalid="ignore", divide="ignore"):
        halves = counts.reshape(len(counts), 2, values)
        shares = halves / halves.sum(axis=2, keepdims=True)
    below = np.cumsum(shares, axis=2)
    ahead = (shares[:, 1] * (below[:, 0] - shares[:, 0] / 2)).sum(axis=1)
    return Differences(below[:, 1] - below[:, 0], ahead)


def _compared(of: Differences, support: Floats) -> tuple[Floats, Floats, Floats]:
    """KS, Wasserstein-1 and AUC of each line."""
    apart = np.abs(of.apart)
    return apart.max(axis=1), apart[:, :-1] @ np.diff(support), of.ahead


def _around(of: Estimate, reach: float) -> Estimate:
    return replace(of, low=max(0.0, of.value - reach), high=of.value + reach)
