"""From one score per aspect to one score per completion.

Pure arithmetic on stored scores, so another aggregation never costs a model call. Aspects are added up in the order of
their names, and results are rounded, so that neither the order of columns nor the engine decides about a threshold.
"""

from collections.abc import Iterable

import polars as pl

from prefkit.errors import RecipeError, suggestion
from prefkit.selection.config import (
    DECIMALS,
    AggregateConfig,
    MeanAggregate,
    MinAggregate,
    VetoAggregate,
    WeightsAggregate,
)


def aggregated_score(aspects: pl.DataFrame, config: AggregateConfig) -> pl.Series:
    """One Float64 per completion, rounded to `DECIMALS`; null when an aspect that counts is null.

    `aspects` has one column per aspect and one row per completion. Raises RecipeError for an aspect it lacks.
    """
    _require_aspects(named_aspects(config), aspects.columns)
    score = _score(sorted(aspects.columns), config).cast(pl.Float64).round(DECIMALS).alias("score")
    return aspects.select(score).to_series()


def pooled_preference(judges: pl.DataFrame, config: AggregateConfig) -> pl.Series:
    """One Float64 per pair, rounded to `DECIMALS`: the mean over the judges that compared it, or their weighted mean.

    `judges` has one column per judge and one row per pair; null where the judge gave no preference. Null when nobody
    did. Raises RecipeError for a judge it lacks and for an aggregation that means nothing here.
    """
    _require_aspects(named_aspects(config), judges.columns)
    match config:
        case WeightsAggregate():
            weights = dict(sorted(config.weights.items()))
        case MeanAggregate():
            weights = dict.fromkeys(sorted(judges.columns), 1.0)
        case MinAggregate() | VetoAggregate():
            raise RecipeError(f"aggregate.kind is {config.kind!r}, expected mean or weights: comparisons are pooled")
    total = pl.sum_horizontal(pl.col(name) * weight for name, weight in weights.items())
    known = pl.sum_horizontal(pl.col(name).is_not_null() * pl.lit(weight) for name, weight in weights.items())
    pooled = pl.when(known != 0).then(total / known)
    return judges.select(pooled.cast(pl.Float64).round(DECIMALS).alias("preference")).to_series()


def named_aspects(config: AggregateConfig) -> set[str]:
    """The aspects the configuration names; those it leaves unnamed need not exist."""
    match config:
        case WeightsAggregate():
            return set(config.weights)
        case VetoAggregate():
            return set(config.veto)
        case MeanAggregate() | MinAggregate():
            return set()


def _score(names: list[str], config: AggregateConfig) -> pl.Expr:
    match config:
        case WeightsAggregate():
            weights = dict(sorted(config.weights.items()))
            return _sum(pl.col(name) * weight for name, weight in weights.items()) / sum(weights.values())
        case MeanAggregate():
            return _mean(names)
        case MinAggregate():
            return pl.when(_all_known(names)).then(pl.min_horizontal(names))
        case VetoAggregate():
            vetoed = pl.any_horizontal(pl.col(name).round(DECIMALS) < least for name, least in config.veto.items())
            score = pl.when(vetoed).then(config.floor).otherwise(_mean(names))
            return pl.when(_all_known(names)).then(score)


def _mean(names: list[str]) -> pl.Expr:
    return _sum(pl.col(name) for name in names) / len(names)


def _sum(terms: Iterable[pl.Expr]) -> pl.Expr:
    return pl.sum_horizontal(terms, ignore_nulls=False)


def _all_known(names: list[str]) -> pl.Expr:
    return pl.all_horizontal(pl.col(name).is_not_null() for name in names)


def _require_aspects(named: set[str], known: list[str]) -> None:
    if not known:
        raise RecipeError("aggregate got no aspect, expected at least one: add a scorer to `score`")
    for name in sorted(named - set(known)):
        raise RecipeError(f"aggregate names {name!r}, expected a scored aspect{suggestion(name, known)}")
