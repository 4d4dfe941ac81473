"""From the columns an adapter works out to the frames of `Shaped`.

An adapter builds one frame per kind of record, with any of the columns that kind has and, where some of its rows cannot
be used, `outcome` and `detail`. `shape` puts those rows into `refused` and completes the others, so that every record
is in exactly one of the two.
"""

from collections.abc import Mapping

import polars as pl

from prefkit.sources.columns import first_refusal
from prefkit.sources.config import ComparisonFields, ScoreFields
from prefkit.sources.rows import SourceRows
from prefkit.sources.shaped import COMPARISONS, COMPLETIONS, PROMPTS, REFUSED, SCORES, Shaped
from prefkit.sources.values import preferences, scores

_NOTHING = pl.lit(None, pl.String())


def shape(
    rows: SourceRows,
    *,
    prompts: pl.DataFrame,
    completions: pl.DataFrame,
    scores: pl.DataFrame | None = None,
    comparisons: pl.DataFrame | None = None,
    keyed: bool = False,
) -> Shaped:
    """The records of a file. Missing columns are null; rows with an `outcome` are refused, and so are unread rows."""
    unread = rows.malformed.with_columns(what=pl.lit("prompts")).select(REFUSED.keys())
    scores = pl.DataFrame(schema=SCORES) if scores is None else scores
    comparisons = pl.DataFrame(schema=COMPARISONS) if comparisons is None else comparisons
    frames = {"prompts": prompts, "completions": completions, "scores": scores, "comparisons": comparisons}
    refused = pl.concat([unread, *(_refused(what, frame) for what, frame in frames.items())])
    return Shaped(
        name=rows.name,
        keyed=keyed,
        prompts=_usable(prompts, PROMPTS),
        completions=_usable(completions, COMPLETIONS),
        scores=_usable(scores, SCORES),
        comparisons=_usable(comparisons, COMPARISONS),
        refused=refused.sort("row", maintain_order=True),
    )


def reference(slot: pl.Expr | None = None, key: pl.Expr | None = None) -> pl.Expr:
    """Which completion a score or a comparison is about."""
    return pl.struct(
        slot=_NOTHING if slot is None else slot.cast(pl.String),
        key=_NOTHING if key is None else key.cast(pl.String),
        seen=_NOTHING,
    )


def rated(frame: pl.DataFrame, fields: ScoreFields) -> pl.DataFrame:
    """The frame with `score`, `failure` and `raw`, and an outcome where there is none, read from `kind` and `text`."""
    return _with_rating(frame, scores(frame.select("kind", "text"), fields), "score")


def preferred(frame: pl.DataFrame, fields: ComparisonFields) -> pl.DataFrame:
    """The frame with `preference`, `failure` and `raw`, and an outcome where there is none, like `rated`."""
    return _with_rating(frame, preferences(frame.select("kind", "text"), fields), "preference")


def _with_rating(frame: pl.DataFrame, rating: pl.DataFrame, name: str) -> pl.DataFrame:
    verdicts = [frame, rating] if "outcome" in frame.columns else [rating]
    return frame.with_columns(
        rating["number"].alias(name), rating["failure"], rating["raw"], *first_refusal(verdicts).get_columns()
    )


def _usable(frame: pl.DataFrame, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    if "outcome" in frame.columns:
        frame = frame.filter(pl.col("outcome").is_null())
    return frame.select(
        pl.col(name).cast(dtype) if name in frame.columns else pl.lit(None, dtype).alias(name)
        for name, dtype in schema.items()
    )


def _refused(what: str, frame: pl.DataFrame) -> pl.DataFrame:
    if "outcome" not in frame.columns:
        return pl.DataFrame(schema=REFUSED)
    refused = frame.filter(pl.col("outcome").is_not_null()).with_columns(what=pl.lit(what))
    return refused.select(pl.col(name).cast(dtype) for name, dtype in REFUSED.items())
