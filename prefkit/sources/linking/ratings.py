"""Scores and comparisons of the tables: which completions they are about, and what was said.

Where the scorer saw another text than the completion's, the rating belongs to that text: a completion of the same
prompt and model, which is imported with it. The completion that the rating names must exist all the same.

What was said is part of a rating's key, so that a corrected one is a new fact. What one scorer says of one thing again
is another `repeat`; the same words about it without a repeat of their own are a `duplicate`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from prefkit.hashing import row_hashes
from prefkit.identity import config_id
from prefkit.row_keys import comparison_ids, score_ids
from prefkit.scoring.protocol import ScoreFailureKind
from prefkit.sources.linking.completions import KEY, LinkedCompletions
from prefkit.sources.linking.prompts import LinkedPrompts
from prefkit.sources.linking.records import OUTCOMES, first_of, records, same_as
from prefkit.sources.linking.references import as_seen, reference_outcome, referenced
from prefkit.sources.outcomes import ImportOutcome
from prefkit.sources.shaped import OVERALL, Shaped

LARGEST_SCORE = 1e12
"""Beyond it the differences between scores are lost in rounding."""
UNDECIDED = 0.5
_SLICE = 1 << 15
"""Rows whose texts are hashed at once."""

_NEVER = pl.lit(value=False)


@dataclass(frozen=True, slots=True)
class LinkedRatings:
    """What became of the scores, or of the comparisons."""

    ratings: pl.DataFrame
    """`id` and what their facts say."""
    seen: pl.DataFrame
    """Completions that scorers saw in place of those they name: `id`, key columns, cell, and `table` and `row`."""
    scorers: pl.DataFrame
    """`name` and `scorer_id` of everyone who rated."""
    outcomes: pl.DataFrame


def scorer_identity(name: str) -> dict[str, str]:
    """What an imported annotator or judge is the same by: the value its scorer id is made of."""
    return {"kind": "imported", "scorer": name}


def annotator_id(name: str) -> int:
    """The scorer id under which the ratings of an imported annotator or judge are stored."""
    return config_id("scorer", scorer_identity(name))


def linked_scores(
    tables: Sequence[Shaped], prompts: LinkedPrompts, completions: LinkedCompletions, names: pl.DataFrame
) -> LinkedRatings:
    """The scores of the tables. `names` are the completions that keys can mean (see `nameable`)."""
    rows = prompts.of(records(tables, "scores")).with_row_index("place")
    found = referenced(rows, "completion", completions.slots, names)
    ids, seen = as_seen(found)
    rows = _checked(rows.with_columns(completion_id=ids), "score", -LARGEST_SCORE, LARGEST_SCORE)
    rows = _refused(rows, [reference_outcome(found)], _NEVER)
    usable = _repeated(rows.filter(pl.col("outcome").is_null()), "score", ["completion_id"])
    usable = usable.with_columns(id=pl.Series(score_ids(_arrow(usable, _SCORE_KEY)), dtype=pl.Binary))
    return _linked("scores", rows, _ended(usable, _NEVER), [seen], _SCORE)


def linked_comparisons(
    tables: Sequence[Shaped], prompts: LinkedPrompts, completions: LinkedCompletions, names: pl.DataFrame
) -> LinkedRatings:
    """The comparisons of the tables, each with its sides in the order of their ids."""
    rows = prompts.of(records(tables, "comparisons")).with_row_index("place")
    found = [referenced(rows, side, completions.slots, names) for side in ("a", "b")]
    (ids_a, seen_a), (ids_b, seen_b) = (as_seen(side) for side in found)
    rows = _checked(rows.with_columns(completion_a=ids_a, completion_b=ids_b), "preference", 0.0, 1.0)
    rows = _refused(rows, [reference_outcome(side) for side in found], pl.col("completion_a") == pl.col("completion_b"))
    usable = _turned(rows.filter(pl.col("outcome").is_null()))
    usable = _repeated(usable, "preference", ["completion_a", "completion_b", "order"])
    usable = usable.with_columns(id=pl.Series(comparison_ids(_arrow(usable, _COMPARISON_KEY)), dtype=pl.Binary))
    usable = _ended(usable, pl.col("preference") == UNDECIDED)
    return _linked("comparisons", rows, usable, [seen_a, seen_b], _COMPARISON)


_TOLD = ("failure", "rationale", "raw")
_SCORE_KEY = ("completion_id", "scorer_id", "aspect", "repeat", "input_id")
_COMPARISON_KEY = ("completion_a", "completion_b", "scorer_id", "aspect", "order", "repeat", "input_id")
_SCORE = ("id", *_SCORE_KEY, "score", *_TOLD, "why")
_COMPARISON = ("id", *_COMPARISON_KEY, "preference", *_TOLD, "why")


def _checked(rows: pl.DataFrame, value: str, low: float, high: float) -> pl.DataFrame:
    """The rows with a number that is none, or too large, as `unparsable`; `why` says so."""
    rows = rows.with_columns(pl.col("aspect").fill_null(OVERALL))
    wrong = (pl.col(value).is_not_null() & ~pl.col(value).is_between(low, high)) & pl.col("failure").is_null()
    why = pl.format("the number is {}, expected one between {} and {}", value, pl.lit(f"{low:g}"), pl.lit(f"{high:g}"))
    return rows.with_columns(
        pl.when(wrong).then(pl.lit(ScoreFailureKind.UNPARSABLE.value)).otherwise("failure").alias("failure"),
        pl.when(wrong).then(why).alias("why"),
    ).with_columns(pl.when(pl.col("failure").is_null()).then(pl.col(value) + 0.0).alias(value))


def _refused(rows: pl.DataFrame, references: Sequence[pl.DataFrame], same: pl.Expr) -> pl.DataFrame:
    """The rows with `outcome` and `detail` where they cannot be imported; `rows` has what the sides are `same` by."""
    value = "score" if "score" in rows.columns else "preference"
    sides = pl.concat(
        [f.rename({c: f"{c}_{i}" for c in f.columns}) for i, f in enumerate(references)], how="horizontal"
    )
    rows = pl.concat([rows, sides], how="horizontal")
    no_prompt = pl.format("the prompt {} was not imported, or is unknown", pl.col("prompt").str.slice(0, 80))
    of_sides = range(len(references))
    bad = pl.coalesce(f"outcome_{i}" for i in of_sides)
    outcome, detail = first_of(
        [
            (pl.col(value).is_null() & pl.col("failure").is_null(), ImportOutcome.UNRATED, None),
            (pl.col("scorer").is_null(), ImportOutcome.MALFORMED, pl.lit("nobody is named as its scorer")),
            (pl.col("prompt_id").is_null(), ImportOutcome.UNKNOWN_PROMPT, no_prompt),
            *(
                (bad == case.value, case, pl.coalesce(f"detail_{i}" for i in of_sides))
                for case in (ImportOutcome.MISSING_COMPLETION, ImportOutcome.AMBIGUOUS_COMPLETION)
            ),
            (same, ImportOutcome.SAME_COMPLETION, None),
        ]
    )
    return rows.with_columns(outcome, detail).drop(sides.columns)


def _turned(rows: pl.DataFrame) -> pl.DataFrame:
    """The comparisons with the smaller id first, as they are stored."""
    rows = rows.with_columns(pl.col("order").fill_null("unknown"))
    turn = pl.col("completion_a") > pl.col("completion_b")
    orders = {"ab": "ba", "ba": "ab"}
    return rows.with_columns(
        completion_a=pl.when(turn).then("completion_b").otherwise("completion_a"),
        completion_b=pl.when(turn).then("completion_a").otherwise("completion_b"),
        preference=pl.when(turn).then(1 - pl.col("preference")).otherwise("preference"),
        order=pl.when(turn).then(pl.col("order").replace(orders)).otherwise("order"),
    )


def _repeated(rows: pl.DataFrame, value: str, about: Sequence[str]) -> pl.DataFrame:
    """The rows with `scorer_id`, `input_id` and their `repeat`."""
    names = rows["scorer"].unique()
    numbers = pl.Series([annotator_id(name) for name in names], dtype=pl.Int64)
    said = [row_hashes(_arrow(part, (value, *_TOLD)), [value, *_TOLD]) for part in rows.iter_slices(_SLICE)]
    inputs = np.concatenate([np.empty(0, np.uint64), *said]) >> np.uint64(1)
    scorers = pl.DataFrame({"scorer": names, "scorer_id": numbers})
    rows = rows.join(scorers, on="scorer", how="left", maintain_order="left").with_columns(
        pl.Series("input_id", inputs.astype(np.int64))
    )
    thing = [*about, "scorer_id", "aspect"]
    counted = rows.filter(pl.col("repeat").is_null()).select(*thing, "input_id").unique(maintain_order=True)
    counted = counted.with_columns(counted=pl.int_range(pl.len(), dtype=pl.Int32).over(thing))
    rows = rows.join(counted, on=[*thing, "input_id"], how="left", maintain_order="left")
    return rows.with_columns(repeat=pl.coalesce("repeat", "counted")).drop("counted")


def _ended(rows: pl.DataFrame, undecided: pl.Expr) -> pl.DataFrame:
    """The rows with an outcome each; equal ids are duplicates."""
    again, where = same_as("id")
    outcome, detail = first_of(
        [
            (again, ImportOutcome.DUPLICATE, where),
            (undecided.fill_null(value=False), ImportOutcome.DRAW, None),
            (pl.lit(value=True), ImportOutcome.IMPORTED, None),
        ]
    )
    failed = pl.col("failure").is_not_null() & (pl.col("outcome") != ImportOutcome.DUPLICATE)
    return rows.with_columns(outcome, detail).with_columns(
        outcome=pl.when(failed).then("failure").otherwise("outcome"), detail=pl.coalesce("detail", "why")
    )


def _linked(
    what: str, rows: pl.DataFrame, usable: pl.DataFrame, seen: Sequence[pl.DataFrame], columns: Sequence[str]
) -> LinkedRatings:
    new = usable.filter(pl.col("outcome") != ImportOutcome.DUPLICATE)
    shown = (
        pl.concat(seen)
        .join(new.select("place", "table", "row"), on="place", how="inner")
        .sort("place", maintain_order=True)
    )
    ends = [
        f.select("table", "row", "outcome", "detail") for f in (usable, rows.filter(pl.col("outcome").is_not_null()))
    ]
    return LinkedRatings(
        new.select(columns).rename({"why": "detail"}),
        shown.unique("completion_id", maintain_order=True).select(
            "table", "row", "kind", "text", *KEY, id="completion_id"
        ),
        new.select("scorer_id", name="scorer").unique(maintain_order=True),
        pl.concat(ends).with_columns(what=pl.lit(what)).select(OUTCOMES.keys()),
    )


def _arrow(rows: pl.DataFrame, columns: Sequence[str]) -> pa.Table:
    table = rows.select(columns).to_arrow(compat_level=pl.CompatLevel.oldest())
    return table.cast(
        pa.schema([(f.name, pa.string() if pa.types.is_large_string(f.type) else f.type) for f in table.schema])
    )
