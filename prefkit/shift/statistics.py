"""The statistics of a version or of one of its sources: each side of the pairs against the reference's own samples.

A scope's samples are those of the prompts that its rows belong to. All means of a scope share their resamples, so a
difference between two of them has the interval of a difference.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from prefkit.shift.bootstrap import Bootstrap, Column, Estimate, Resampled, resampled_means
from prefkit.shift.data import SIDES, Floats, Integers, Side
from prefkit.shift.distances import distances
from prefkit.shift.divergence import k1, k2, k3, scaled_weights
from prefkit.shift.scores import Scores
from prefkit.shift.told_apart import ToldApart, told_apart


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where behaviour log-probs are known: sequence KL from the behaviour policy to the reference, in nats."""

    k1: Estimate
    k2: Estimate
    k3: Estimate
    effective_sample: Estimate
    """Effective sample size of the importance weights, as a share of the rows."""


@dataclass(frozen=True, slots=True)
class AgainstSamples:
    """What needs the reference's own samples of the same prompts."""

    nll_gap: Estimate
    """NLL per token less that of the prompt's samples, in nats per token."""
    auc: Estimate
    """Chance that a row is more surprising than a sample: 0.5 when surprise cannot tell them apart."""
    length_ks: Estimate
    length_wasserstein: Estimate
    """In tokens."""
    told_apart: ToldApart


@dataclass(frozen=True, slots=True)
class SideStatistics:
    """One side of the pairs."""

    side: Side
    nll: Estimate
    """Nats per token."""
    off_support: Estimate
    """Share of rows above the reference's own range."""
    too_likely: Estimate
    """Share of rows below it."""
    tokens: Estimate
    """Mean length."""
    cut: Estimate
    """Share of rows that the longest length cut."""
    against_samples: AgainstSamples | None
    """None when the reference has no sample of any of the prompts."""
    divergence: Divergence | None
    """None when no behaviour log-prob is known."""


@dataclass(frozen=True, slots=True)
class ScopeStatistics:
    """A version, or one of its sources."""

    rows: int
    prompts: int
    samples: int
    sample_nll: Estimate | None
    """Of the reference's own samples, in nats per token."""
    sample_tokens: Estimate | None
    """Their mean length."""
    chosen_rejected_gap: Estimate | None
    """NLL per token of the chosen less that of the rejected, over pairs; None without pairs."""
    sides: tuple[SideStatistics, ...]

    def side(self, name: Side) -> SideStatistics | None:
        """The side of this name, or None when no row has it."""
        return next((side for side in self.sides if side.side == name), None)


def scope_statistics(rows: pl.DataFrame, samples: pl.DataFrame, bootstrap: Bootstrap) -> ScopeStatistics:
    """Statistics of scored rows (see `Scores`), one at least, against the samples of their prompts."""
    samples = samples.join(rows.select("prompt").unique(), on="prompt", how="semi")
    by_side: dict[Side, pl.DataFrame] = {side: rows.filter(side=side) for side in SIDES}
    by_side = {side: of for side, of in by_side.items() if of.height}
    columns = {f"sample.{name}": Column(floats(samples, name), prompts(samples)) for name in ("nll", "tokens")}
    for side, of in by_side.items():
        columns |= {f"{side}.{name}": Column(values, prompts(of)) for name, values in _numbers(of).items()}
    columns["pair_gap"] = _pair_gap(rows)
    means = resampled_means(columns, bootstrap)
    found = {name: mean.estimate(bootstrap.level) for name, mean in means.items()}
    sides = tuple(_side(side, of, samples, means, bootstrap) for side, of in by_side.items())
    prompt_count = rows["prompt"].n_unique()
    ours = (found.get("sample.nll"), found.get("sample.tokens"), found.get("pair_gap"))
    return ScopeStatistics(rows["row"].n_unique(), prompt_count, samples.height, *ours, sides)


def every_scope(scores: Scores, bootstrap: Bootstrap) -> tuple[ScopeStatistics, dict[str, ScopeStatistics]]:
    """Of all rows, and of each source by name."""
    rows, samples = scores.rows, scores.samples
    sources = rows.partition_by("source", as_dict=True)
    named = {str(key[0]): of for key, of in sorted(sources.items(), key=lambda item: str(item[0][0]))}
    overall = scope_statistics(rows, samples, bootstrap)
    return overall, {name: scope_statistics(of, samples, bootstrap) for name, of in named.items()}


def floats(frame: pl.DataFrame, name: str) -> Floats:
    """A column as Float64, NaN for null."""
    return frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def prompts(frame: pl.DataFrame) -> Integers:
    """The prompt of each line."""
    return frame["prompt"].to_numpy()


def _numbers(of: pl.DataFrame) -> dict[str, Floats]:
    """The numbers of each row whose means are statistics."""
    own = {name: floats(of, name) for name in ("nll", "nll_gap", "off_support", "too_likely", "tokens", "cut")}
    ratio = floats(of, "log_ratio")
    weights = scaled_weights(ratio)
    return own | {"k1": k1(ratio), "k2": k2(ratio), "k3": k3(ratio), "weight": weights, "weight_squared": weights**2}


def _pair_gap(rows: pl.DataFrame) -> Column:
    pairs = rows.filter(side="chosen").join(rows.filter(side="rejected"), on="row", suffix="_rejected")
    return Column(floats(pairs, "nll") - floats(pairs, "nll_rejected"), prompts(pairs))


def _side(
    side: Side, of: pl.DataFrame, samples: pl.DataFrame, means: dict[str, Resampled], bootstrap: Bootstrap
) -> SideStatistics:
    level = bootstrap.level
    mine = {name.removeprefix(f"{side}."): mean for name, mean in means.items() if name.startswith(f"{side}.")}
    return SideStatistics(
        side,
        mine["nll"].estimate(level),
        mine["off_support"].share(level),
        mine["too_likely"].share(level),
        mine["tokens"].estimate(level),
        mine["cut"].share(level),
        _against(of, samples, mine["nll_gap"].estimate(level), bootstrap) if "nll_gap" in mine else None,
        _divergence(mine, level) if "k1" in mine else None,
    )


def _against(of: pl.DataFrame, samples: pl.DataFrame, gap: Estimate, bootstrap: Bootstrap) -> AgainstSamples:
    of = of.join(samples.select("prompt").unique(), on="prompt", how="semi")
    samples = samples.join(of.select("prompt").unique(), on="prompt", how="semi")
    own, theirs = prompts(of), prompts(samples)
    surprise = distances(floats(of, "surprise"), own, floats(samples, "surprise"), theirs, bootstrap)
    length = distances(floats(of, "tokens"), own, floats(samples, "tokens"), theirs, bootstrap)
    row_residuals, sample_residuals = floats(of, "residual"), floats(samples, "residual")
    row_tokens, sample_tokens = of["tokens"].to_numpy(), samples["tokens"].to_numpy()
    test = told_apart(row_residuals, row_tokens, own, sample_residuals, sample_tokens, theirs)
    return AgainstSamples(gap, surprise.auc, length.ks, length.wasserstein, test)


def _divergence(means: dict[str, Resampled], level: float) -> Divergence:
    weight, squared = means["weight"], means["weight_squared"]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = Resampled(weight.value**2 / squared.value, weight.draws**2 / squared.draws, weight.rows, weight.prompts)
    first, second, third = (means[name].estimate(level) for name in ("k1", "k2", "k3"))
    return Divergence(first, second, third, share.estimate(level))
