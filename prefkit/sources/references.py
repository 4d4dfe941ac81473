"""How what was said names its completion: by its place in the same row, or by the key it has within its prompt."""

from collections.abc import Collection

import polars as pl

from prefkit.sources.columns import (
    column_key,
    column_text,
    first_refusal,
    literal_text,
    missing_field,
    refused_where,
    require_column,
    several,
)
from prefkit.sources.config import Columns
from prefkit.sources.outcomes import ImportOutcome
from prefkit.sources.rows import SourceRows

REFERENCE_SCHEMA = {"slot": pl.String(), "key": pl.String(), "seen": pl.String()}


def references(rows: SourceRows, of: Columns | None, seen: str | None, slots: Collection[str]) -> pl.DataFrame:
    """`slot`, `key` and `seen` for every row, or `outcome` and `detail`.

    `of` is a slot of the row's completions, else it names columns with keys; None is the only slot. Raises SourceError
    for a name that is neither.
    """
    if of is None:
        (of,) = slots
    named = _by_slot(rows, of) if isinstance(of, str) and of in slots else _by_key(rows, of, slots)
    if seen is None:
        return named
    text = column_text(rows, seen, "text that the scorer saw", ImportOutcome.UNSUPPORTED_CONTENT)
    # An empty text is one that the scorer saw: of a model that said nothing. Only a missing cell is none.
    shown = text.select(seen="text")
    return pl.concat([named.select("slot", "key"), shown, first_refusal([named, text])], how="horizontal")


def _by_slot(rows: SourceRows, slot: str) -> pl.DataFrame:
    nowhere = missing_field(rows).rename({"text": "seen"})
    return nowhere.with_columns(slot=pl.lit(slot), key=pl.lit(None, pl.String))


def _by_key(rows: SourceRows, of: Columns, slots: Collection[str]) -> pl.DataFrame:
    for column in several(of):
        if literal_text(column) is None:
            require_column(rows, column, tuple(slots))
    missing = f"the completion's key ({', '.join(several(of))}) is missing"
    found = column_key(rows, of, "completion's key")
    found = refused_where(found, pl.col("text").is_null(), missing, ImportOutcome.MISSING_COMPLETION)
    return found.rename({"text": "key"}).with_columns(slot=pl.lit(None, pl.String), seen=pl.lit(None, pl.String))
