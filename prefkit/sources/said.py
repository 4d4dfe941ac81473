"""Who said it, of what aspect, for which time, why, and in which order the sides were shown."""

import polars as pl

from prefkit.sources.columns import column_cells, column_name, first_refusal, missing_field, refused_where
from prefkit.sources.config import Said
from prefkit.sources.rows import SourceRows
from prefkit.sources.shaped import OVERALL
from prefkit.sources.values import parsed_number

ORDERS = ("ab", "ba", "unknown")

_MOST_REPEATS = 2**31 - 1
_LONGEST = 40


def said_of(rows: SourceRows, fields: Said) -> pl.DataFrame:
    """`scorer`, `aspect`, `repeat` and `rationale`, or `outcome` and `detail`."""
    named = column_name(rows, fields.scorer, "scorer")
    scorer = refused_where(named, pl.col("text").is_null(), "the scorer is missing")
    aspect = column_name(rows, fields.aspect, "aspect").with_columns(pl.col("text").fill_null(OVERALL))
    repeat = _repeat(column_name(rows, fields.repeat, "repeat"))
    rationale = _rationale(rows, fields.rationale)
    return pl.DataFrame(
        {
            "scorer": scorer["text"],
            "aspect": aspect["text"],
            "repeat": repeat["repeat"],
            "rationale": rationale["text"],
            **first_refusal([scorer, aspect, repeat, rationale]).to_dict(),
        }
    )


def order_of(rows: SourceRows, column: str | None) -> pl.DataFrame:
    """`text` with one of ORDERS, or `outcome` and `detail`."""
    found = column_name(rows, column, "order").with_columns(pl.col("text").str.strip_chars().fill_null("unknown"))
    told = pl.format("the order is {}, expected ab or ba", pl.col("text").str.slice(0, _LONGEST))
    return refused_where(found, ~pl.col("text").is_in(ORDERS), told)


def _repeat(found: pl.DataFrame) -> pl.DataFrame:
    """`repeat`, or `outcome` and `detail`; a missing one stays missing, to be counted."""
    number = parsed_number(pl.col("text"))
    usable = (number == number.floor()) & number.is_between(0, _MOST_REPEATS)
    wrong = pl.col("text").is_not_null() & ~usable.fill_null(value=False)
    told = pl.format("the repeat is {}, expected a whole number from 0", pl.col("text").str.slice(0, _LONGEST))
    return refused_where(found, wrong, told).with_columns(repeat=pl.when(usable).then(number).cast(pl.Int32))


def _rationale(rows: SourceRows, column: str | None) -> pl.DataFrame:
    """The scorer's words; a list or object is kept as its JSON."""
    if column is None:
        return missing_field(rows)
    found = pl.concat([column_cells(rows, column), missing_field(rows).drop("text")], how="horizontal")
    return refused_where(found, pl.col("kind") == "unreadable", pl.format("rationale: {}", "text"))
