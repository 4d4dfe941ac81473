"""The columns of a shape: whether a file has them, and their cells."""

from collections.abc import Sequence

import polars as pl

from prefkit.errors import SourceError
from prefkit.sources.columns import blank, first_names, refused_where
from prefkit.sources.fields import absent_field, text_field
from prefkit.sources.rows import CELL_SCHEMA, MALFORMED, SourceRows, cells


def require_columns(rows: SourceRows, shape: str, columns: Sequence[str]) -> None:
    """Raises SourceError when the file lacks one of the columns that rows of this shape have."""
    got = rows.frame.columns
    if not got:
        raise SourceError(f"{rows.name} has no row that can be read, expected rows of the shape {shape!r}")
    for column in columns:
        if column not in got:
            raise SourceError(
                f"{rows.name} has no column {column!r}, got {first_names(got)}; the adapter {shape!r} expects "
                f"{', '.join(columns)}: name another adapter, or map the columns"
            )


def first_column(rows: SourceRows, columns: Sequence[str]) -> str:
    """The first of several spellings that the file has; the first of all when it has none."""
    return next((column for column in columns if column in rows.frame.columns), columns[0])


def cells_of(rows: SourceRows, column: str) -> pl.DataFrame:
    """`kind` and `text` of every cell, as `cells` gives them; all null where the file lacks the column."""
    if column not in rows.frame.columns:
        return pl.DataFrame(schema=CELL_SCHEMA).clear(len(rows.frame))
    return cells(rows, column)


def named_cells(rows: SourceRows, column: str, name: str) -> pl.DataFrame:
    """The same, as `<name>_kind` and `<name>_text`."""
    return cells_of(rows, column).select(pl.all().name.prefix(f"{name}_"))


def text_of(rows: SourceRows, column: str) -> pl.DataFrame:
    """`text` of a column of names or other short texts; `outcome` and `detail` where a cell is none.

    Blank is missing, and all are where the file lacks the column.
    """
    if column not in rows.frame.columns:
        return absent_field(len(rows.frame))
    return text_field(rows, column, column, MALFORMED).with_columns(pl.when(~blank("text")).then("text"))


def needed_text_of(rows: SourceRows, column: str) -> pl.DataFrame:
    """The same, malformed where it is missing."""
    return refused_where(text_of(rows, column), pl.col("text").is_null(), f"{column} is missing")
