"""Imported ratings: scores and comparisons that annotators or judges gave, as a build's labels.

A recipe's entry names a scorer (or a pattern) and an aspect. Every rating that the imports hold of it ends in one
outcome: it counts for a candidate, its completion is no candidate, or it has no value.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import polars as pl

from prefkit.errors import NotFoundError, suggestion
from prefkit.pipeline.labels import SCORED
from prefkit.records import CONFIGS, IMPORTED_POLICY, FactTable
from prefkit.scoring.config import ImportedScorer
from prefkit.selection.config import DECIMALS
from prefkit.sources.linking.ratings import annotator_id
from prefkit.store.facts import FactStore, settled

RATED = "rated"
DROPPED = "dropped_completion"
"""A completion it is about is not among the candidates."""
SAME_TEXT = "same_text"
"""Both completions say the same."""
OTHER_BASELINE = "other_baseline"
"""Neither completion, or both, are by the model the entry compares with."""
UNRATED = "unrated"
"""Nobody rated the completion."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An imported scorer of a recipe: the name of its score, and whose ratings count."""

    name: str
    config: ImportedScorer
    scorer_ids: tuple[int, ...]


def entries(facts: FactStore, configs: Sequence[ImportedScorer]) -> list[Entry]:
    """The entries with the ids of their scorers. Raises NotFoundError for one that nobody fits."""
    return [Entry(c.aspects[0], c, _scorer_ids(facts, c.scorer)) for c in configs]


def _scorer_ids(facts: FactStore, pattern: str) -> tuple[int, ...]:
    rows = facts.read(CONFIGS, ["name", "config_id"], {"kind": "scorer"}).unique().iter_rows()
    annotators = {name: number for name, number in rows if number == annotator_id(name)}
    found = tuple(sorted(number for name, number in annotators.items() if fnmatchcase(name, pattern)))
    if not found:
        near = suggestion(pattern, sorted(annotators)) if annotators else ", got none: import ratings first"
        raise NotFoundError(f"score names the imported scorer {pattern!r}, expected one that was imported{near}")
    return found


def asked_ratings(
    facts: FactStore, table: FactTable, columns: Sequence[str], ids: pl.Series, asked: Sequence[Entry], at: int
) -> pl.DataFrame:
    """The rows of these ids that entries ask for: `entry`, `id`, `failure` and the columns; in the order of ids."""
    needed = ["id", "batch_id", "scorer_id", "aspect", "failure", "transient", "attempt", *columns]
    rows = settled(facts.gather(table, needed, ids, at)).sort("id")
    names = pl.Enum([e.name for e in asked])
    parts = [
        rows.filter(pl.col("scorer_id").is_in(e.scorer_ids), pl.col("aspect") == e.config.aspect).select(
            pl.lit(e.name).cast(names).alias("entry"), "id", "failure", *columns
        )
        for e in asked
    ]
    return pl.concat(parts)


def placed_scores(rows: pl.DataFrame, places: pl.DataFrame) -> pl.DataFrame:
    """Scores of completions with `prompt_id`, `candidate` and `outcome`; `places` as `rated_candidates` gives them."""
    placed = rows.join(places, on="completion_id", how="left", maintain_order="left")
    return placed.with_columns(outcome=_outcome(pl.col("candidate").is_null()))


def placed_comparisons(rows: pl.DataFrame, places: pl.DataFrame) -> pl.DataFrame:
    """Comparisons with `prompt_id`, `policy_a`, `policy_b`, the candidates `a` and `b`, and `outcome`."""
    for side in ("a", "b"):
        names = {"completion_id": f"completion_{side}", "candidate": side, "policy_id": f"policy_{side}"}
        names |= {"prompt_id": "prompt_id"} if side == "a" else {}
        found = places.select(pl.col(c).alias(n) for c, n in names.items())
        rows = rows.join(found, on=f"completion_{side}", how="left", maintain_order="left")
    same = pl.when(pl.col("a") == pl.col("b")).then(pl.lit(SAME_TEXT))
    outcome = same.otherwise(_outcome(pl.col("a").is_null() | pl.col("b").is_null()))
    return rows.with_columns(outcome=outcome)


def scores_against(rows: pl.DataFrame, asked: Sequence[Entry]) -> pl.DataFrame:
    """Comparisons with an entry's baseline as scores of the other side: `candidate`, `score`, `outcome` anew.

    One with another model ends in `other_baseline`: preferences over two baselines are never pooled. The baseline
    itself need not be a candidate.
    """
    baselines = {e.name: f"{IMPORTED_POLICY}{e.config.against}" for e in asked}
    baseline = pl.col("entry").cast(pl.String).replace_strict(baselines, return_dtype=pl.String)
    is_a, is_b = pl.col("policy_a") == baseline, pl.col("policy_b") == baseline
    rows = rows.with_columns(
        candidate=pl.when(is_b).then("a").otherwise("b"),
        score=pl.when(is_b).then("preference").otherwise(1 - pl.col("preference")),
    )
    other = pl.when(is_a == is_b).then(pl.lit(OTHER_BASELINE))
    return rows.with_columns(outcome=other.otherwise(_outcome(pl.col("candidate").is_null())))


def _outcome(dropped: pl.Expr) -> pl.Expr:
    return pl.when(dropped).then(pl.lit(DROPPED)).otherwise(pl.col("failure").fill_null(RATED))


def mean_scores(ratings: pl.DataFrame, names: Collection[str], size: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Per candidate, 0 to `size`: a Float64 column per entry, and a column per entry with its outcome.

    The outcome is `scored`, `unrated`, or why the only ratings have no value.
    """
    counted = ratings.filter(~pl.col("outcome").is_in([DROPPED, OTHER_BASELINE]))
    means = counted.group_by("entry", "candidate", maintain_order=True).agg(
        pl.col("score").filter(pl.col("outcome") == RATED).mean().round(DECIMALS),
        pl.col("outcome").filter(pl.col("outcome") != RATED).first().alias("failure"),
    )
    every = pl.DataFrame({"candidate": pl.int_range(size, dtype=pl.UInt32, eager=True)})
    scores: dict[str, pl.Series] = {}
    outcomes: dict[str, pl.Series] = {}
    scored = pl.when(pl.col("score").is_not_null()).then(pl.lit(SCORED))
    for name in names:
        own = every.join(means.filter(pl.col("entry") == name), on="candidate", how="left", maintain_order="left")
        scores[name] = own["score"]
        outcomes[name] = own.select(scored.otherwise(pl.col("failure").fill_null(UNRATED)).alias(name)).to_series()
    return pl.DataFrame(scores), pl.DataFrame(outcomes)


def mean_preferences(comparisons: pl.DataFrame, names: Collection[str]) -> pl.DataFrame:
    """Per compared pair `first` < `second` and one Float64 column per entry: its mean preference for the first.

    Null where an entry has none; a pair of which every comparison failed is there, with nulls.
    """
    usable = comparisons.filter(~pl.col("outcome").is_in([DROPPED, SAME_TEXT]))
    turned = pl.col("a") > pl.col("b")
    usable = usable.select(
        "entry",
        first=pl.min_horizontal("a", "b"),
        second=pl.max_horizontal("a", "b"),
        preference=pl.when(turned).then(1 - pl.col("preference")).otherwise("preference"),
    )
    pairs = usable.select("first", "second").unique().sort("first", "second")
    for name in names:
        own = usable.filter(pl.col("entry") == name)
        means = own.group_by("first", "second", maintain_order=True).agg(
            pl.col("preference").mean().round(DECIMALS).alias(name)
        )
        pairs = pairs.join(means, on=["first", "second"], how="left", maintain_order="left")
    return pairs
