"""What a pairwise judge prefers besides quality, measured on its own comparisons; and labels that are free of it.

A comparison's verdict is 1 when its preference exceeds 1/2 by more than the tie band, 0 when it falls short by more,
else 1/2. A pair that was shown in both orders compares a judge with itself: the quality of the two completions cancels,
whatever it is, and what remains is the effect of the order. Repeats and aspects of one pair are averaged before
anything is counted, so that intervals are about pairs.

Comparisons have the columns `completion_a`, `completion_b`, `aspect`, `order`, `repeat` and `preference` (null when the
call failed) as in the fact table, and `judge`; for `length_bias` also `length_a` and `length_b`.
"""

from enum import StrEnum

import polars as pl

Z = 1.959963984540054
"""Two-sided 95 % of the normal distribution."""
DECIMALS = 9
_PAIR = ("judge", "completion_a", "completion_b")
_LABEL = (*_PAIR, "aspect")
_UNIT = (*_LABEL, "repeat")


class PairOutcome(StrEnum):
    """How a pair's label came about."""

    AGREED = "agreed"
    """Every order that was asked for has the same verdict."""
    DISAGREED = "disagreed"
    """The orders have different verdicts: a tie."""
    INCOMPLETE = "incomplete"
    """An order has no verdict, since its calls failed: no label, not a tie."""


def pair_labels(comparisons: pl.DataFrame, tie_band: float = 0.0) -> pl.DataFrame:
    """One row per judge, pair and aspect: `preference` for a (null when incomplete) and `outcome` (`PairOutcome`).

    Within an order the preferences of the repeats are averaged. Orders that agree give the mean of their preferences,
    orders that do not give 1/2.
    """
    by_order = comparisons.group_by(*_LABEL, "order", maintain_order=True).agg(
        pl.col("preference").mean().round(DECIMALS)
    )
    labels = by_order.group_by(_LABEL, maintain_order=True).agg(
        pl.col("preference").mean(),
        complete=pl.col("preference").is_not_null().all(),
        agreed=_verdict(pl.col("preference"), tie_band).n_unique() == 1,
    )
    outcome = (
        pl.when(~pl.col("complete"))
        .then(pl.lit(PairOutcome.INCOMPLETE.value))
        .when("agreed")
        .then(pl.lit(PairOutcome.AGREED.value))
        .otherwise(pl.lit(PairOutcome.DISAGREED.value))
    )
    preference = pl.when(pl.col("complete") & pl.col("agreed")).then("preference").when("complete").then(0.5)
    return labels.select(*_LABEL, preference=preference, outcome=outcome)


def position_bias(comparisons: pl.DataFrame, tie_band: float = 0.0) -> pl.DataFrame:
    """P(the completion shown first is preferred) - P(the one shown second is), from -1 to 1.

    It is b for a judge that takes the first with probability b, whatever it reads, and else judges by what it reads.
    Per judge `value`, the mean over the `pairs` that have a verdict in both orders, with `low` and `high` of its 95 %
    interval. With verdicts v for a, a pair counts as v_ab - v_ba: the preferences for the first shown, less those for
    the second, over both orders. The interval is the normal one after one pair of either extreme is added (Bonett and
    Price 2012, for paired proportions), so it has a width also when all pairs agree.
    """
    pairs = (
        _both_orders(comparisons, tie_band)
        .group_by(_PAIR, maintain_order=True)
        .agg((pl.col("ab") - pl.col("ba")).mean().alias("x"))
    )
    adjusted = pl.col("x").sum() / (pl.len() + 2)
    variance = (pl.col("x").pow(2).sum() + 2) / (pl.len() + 2) - adjusted.pow(2)
    half = Z * (variance / (pl.len() + 2)).sqrt()
    measured = pairs.group_by("judge", maintain_order=True).agg(
        pl.col("x").mean().alias("value"),
        (adjusted - half).clip(-1.0, 1.0).alias("low"),
        (adjusted + half).clip(-1.0, 1.0).alias("high"),
        pl.len().alias("pairs"),
    )
    return _every_judge(measured, comparisons)


def consistency(comparisons: pl.DataFrame, tie_band: float = 0.0) -> pl.DataFrame:
    """The share of pairs with the same verdict in both orders.

    Columns as in `position_bias`, with Wilson's interval.
    """
    same = (pl.col("ab") == pl.col("ba")).cast(pl.Float64)
    pairs = _both_orders(comparisons, tie_band).group_by(_PAIR, maintain_order=True).agg(same.mean().alias("x"))
    return _every_judge(_shares(pairs), comparisons)


def length_bias(comparisons: pl.DataFrame, tie_band: float = 0.0) -> pl.DataFrame:
    """P(the longer completion is preferred) - P(the shorter one is), among decided pairs of unequal length; -1 to 1.

    By the label of `pair_labels`, so the order plays no part. It says what goes together, not what causes what: longer
    completions can be better ones. Columns as in `position_bias`, with Wilson's interval.
    """
    lengths = comparisons.unique(_PAIR, keep="first", maintain_order=True).select(*_PAIR, "length_a", "length_b")
    labels = pair_labels(comparisons, tie_band).join(lengths, on=_PAIR, maintain_order="left")
    verdict = _verdict(pl.col("preference"), tie_band)
    decided = labels.filter(verdict.is_not_null() & (verdict != 0.5) & (pl.col("length_a") != pl.col("length_b")))
    longer = ((verdict == 1) == (pl.col("length_a") > pl.col("length_b"))).cast(pl.Float64)
    shares = _shares(decided.group_by(_PAIR, maintain_order=True).agg(longer.mean().alias("x")))
    return _every_judge(shares.with_columns(pl.col("value", "low", "high") * 2 - 1), comparisons)


def _verdict(preference: pl.Expr, tie_band: float) -> pl.Expr:
    lead = (preference - 0.5).round(DECIMALS)
    return pl.when(lead.abs() > tie_band).then((lead.sign() + 1) / 2).when(lead.is_not_null()).then(0.5)


def _both_orders(comparisons: pl.DataFrame, tie_band: float) -> pl.DataFrame:
    """One row per unit that has a verdict in both orders: `ab` and `ba`, both for a."""
    verdicts = comparisons.with_columns(verdict=_verdict(pl.col("preference"), tie_band)).drop_nulls("verdict")
    ab, ba = (
        verdicts.filter(pl.col("order") == order).select(*_UNIT, pl.col("verdict").alias(order))
        for order in ("ab", "ba")
    )
    return ab.join(ba, on=_UNIT, maintain_order="left")


def _shares(pairs: pl.DataFrame) -> pl.DataFrame:
    """Per judge the mean of `x` in [0, 1] with Wilson's interval (1927), conservative where x is not 0 or 1."""
    n, share = pl.len(), pl.col("x").mean()
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * (share * (1 - share) / n + Z**2 / (4 * n.cast(pl.Float64).pow(2))).sqrt()
    return pairs.group_by("judge", maintain_order=True).agg(
        share.alias("value"),
        (centre - half).clip(0.0, 1.0).alias("low"),
        (centre + half).clip(0.0, 1.0).alias("high"),
        n.alias("pairs"),
    )


def _every_judge(measured: pl.DataFrame, comparisons: pl.DataFrame) -> pl.DataFrame:
    """The measure of every judge, in order of name; null of no pairs where it has none that count."""
    judges = comparisons.select("judge").unique().sort("judge")
    every = judges.join(measured, on="judge", how="left", maintain_order="left")
    return every.with_columns(pl.col("value", "low", "high").round(DECIMALS), pl.col("pairs").fill_null(0))
