"""The numbers of an evaluation, overall or of one source: frames in, estimates out.

All means of a scope share their resamples of prompts, so a difference between policy and baseline has the interval of
a paired difference. Failed draws and labels that there are not are in no mean: they are shares of their own.

    rows of a side                                            matches of both sides
    prompt     Int64    any number per prompt                 prompt      Int64    the same numbers
    failed     Float64  1 for a draw without a completion     preference  Float64  1, 0.5 or 0 for the policy; null
    cut        Float64  1 where the longest length ended it                        where it is not known
    unlabelled Float64  1 where a scorer gave no score
    tokens     Int64    of the completion
    reward     Float64  its aggregated score
    log_ratio  Float64  log-prob under the start less that under its policy
    aspect.X   Float64  its score by aspect X
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from prefkit.pipeline.evaluation.preferences import TIE
from prefkit.shift.bootstrap import Bootstrap, Column, Estimate, Resampled, resampled_means
from prefkit.shift.data import Floats
from prefkit.shift.divergence import k1, k3
from prefkit.shift.statistics import floats, prompts

SHARES = ("failed", "cut", "unlabelled")
ASPECT = "aspect."
"""What the columns of aspects begin with."""
POLICY, BASELINE = "policy", "baseline"


@dataclass(frozen=True, slots=True)
class Compared:
    """A mean of both sides; None where nothing of a side is known."""

    policy: Estimate | None
    baseline: Estimate | None
    difference: Estimate | None
    """The policy's less the baseline's, paired by prompt."""


@dataclass(frozen=True, slots=True)
class Wins:
    """How often the policy's completion is preferred to the baseline's, over all matches of one prompt."""

    rate: Estimate
    """A tie counts half."""
    wins: int
    ties: int
    losses: int
    unknown: int
    """Matches of which nobody could say who wins; they are in no number above."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """KL from a policy to the start over its own completions, in nats; see `prefkit.shift.divergence`."""

    k1: Estimate
    """Per completion."""
    k3: Estimate
    """Per completion."""
    per_token: Estimate
    """The sum of k1 over the sum of tokens."""


@dataclass(frozen=True, slots=True)
class Scope:
    """All held-out prompts, or those of one source."""

    prompts: int
    reward: Compared
    aspects: Mapping[str, Compared]
    tokens: Compared
    failed: Compared
    cut: Compared
    unlabelled: Compared
    wins: Wins | None
    """None where no match could be decided."""
    divergence: Mapping[str, Divergence | None]
    """By side; None where no log-ratio is known."""


def scope(
    policy: pl.DataFrame, baseline: pl.DataFrame, matches: pl.DataFrame, shares: Collection[str], bootstrap: Bootstrap
) -> Scope:
    """The numbers of these rows and matches. `shares` are the aspects that are 0 or 1: their means are accuracies."""
    sides = {POLICY: policy, BASELINE: baseline}
    columns = {f"{side}.{name}": column for side, rows in sides.items() for name, column in _columns(rows).items()}
    columns["wins"] = Column(floats(matches, "preference"), prompts(matches))
    means = resampled_means(columns, bootstrap)
    aspects = [name.removeprefix(ASPECT) for name in policy.columns if name.startswith(ASPECT)]
    bounded = {*SHARES, *(f"{ASPECT}{name}" for name in shares)}

    def of(name: str) -> Compared:
        return _compared(means, name, name in bounded, bootstrap.level)

    return Scope(
        prompts=policy["prompt"].n_unique(),
        reward=of("reward"),
        aspects={name: of(f"{ASPECT}{name}") for name in aspects},
        tokens=of("tokens"),
        failed=of("failed"),
        cut=of("cut"),
        unlabelled=of("unlabelled"),
        wins=_wins(matches["preference"], means["wins"], bootstrap.level) if "wins" in means else None,
        divergence={side: _divergence(means, side, bootstrap.level) for side in sides},
    )


def _columns(rows: pl.DataFrame) -> dict[str, Column]:
    names = [*SHARES, "tokens", "reward", *(name for name in rows.columns if name.startswith(ASPECT))]
    numbers = {name: floats(rows, name) for name in names}
    ratio = floats(rows, "log_ratio")
    numbers |= {"k1": k1(ratio), "k3": k3(ratio), "read": _where_known(numbers["tokens"], ratio)}
    return {name: Column(values, prompts(rows)) for name, values in numbers.items()}


def _where_known(tokens: Floats, ratio: Floats) -> Floats:
    return np.where(np.isnan(ratio), np.nan, tokens)


def _compared(means: Mapping[str, Resampled], name: str, share: bool, level: float) -> Compared:
    policy, baseline = (means.get(f"{side}.{name}") for side in (POLICY, BASELINE))
    return Compared(
        policy and _estimate(policy, share, level),
        baseline and _estimate(baseline, share, level),
        (policy - baseline).estimate(level) if policy and baseline else None,
    )


def _estimate(mean: Resampled, share: bool, level: float) -> Estimate:
    return mean.share(level) if share else mean.estimate(level)


def _wins(preference: pl.Series, rate: Resampled, level: float) -> Wins:
    wins, ties, losses = (int((preference == outcome).sum()) for outcome in (1.0, TIE, 0.0))
    return Wins(rate.share(level), wins, ties, losses, preference.null_count())


def _divergence(means: Mapping[str, Resampled], side: str, level: float) -> Divergence | None:
    found = [means.get(f"{side}.{name}") for name in ("k1", "k3", "read")]
    if None in found:
        return None
    first, third, tokens = (mean for mean in found if mean is not None)
    with np.errstate(invalid="ignore", divide="ignore"):
        per_token = Resampled(first.value / tokens.value, first.draws / tokens.draws, first.rows, first.prompts)
    return Divergence(first.estimate(level), third.estimate(level), per_token.estimate(level))
