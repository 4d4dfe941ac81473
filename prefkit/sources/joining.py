"""Columns from another file, put beside the rows of a file by equal keys."""

from pathlib import Path

import polars as pl

from prefkit.errors import SourceError
from prefkit.sources.columns import column_key, several
from prefkit.sources.config import JoinFields
from prefkit.sources.rows import SourceRows


def joined(rows: SourceRows, other: SourceRows, fields: JoinFields) -> SourceRows:
    """The rows with the columns of `other`; where no row of `other` has the key, these are null.

    Keys agree as texts, so 7 is "7". Rows of `other` that could not be read are malformed rows of the result, told with
    the name of their file. Raises SourceError where several rows of `other` have a key that is looked for.
    """
    here, there = _keys(rows, fields), _keys(other, fields).with_row_index("place")
    _require_one_match(here, there, rows, other)
    place = here.join(there, on="key", how="left", maintain_order="left")["place"]
    columns = [column for column in other.frame.columns if column not in several(fields.on)]
    names = {column: _free_name(column, rows, other) for column in columns}
    beside = other.frame.select(pl.col(columns).gather(place)).rename(names)
    json_columns = {names[column] for column in columns if column in other.json_columns}
    told = pl.format("{}: {}", pl.lit(other.name), "detail")
    return SourceRows(
        rows.name,
        rows.numbers,
        pl.concat([rows.frame, beside], how="horizontal"),
        rows.json_columns | json_columns,
        pl.concat([rows.malformed, other.malformed.with_columns(detail=told)]),
    )


def _keys(rows: SourceRows, fields: JoinFields) -> pl.DataFrame:
    return column_key(rows, fields.on, "key").select(key="text")


def _require_one_match(here: pl.DataFrame, there: pl.DataFrame, rows: SourceRows, other: SourceRows) -> None:
    looked_for = there.join(here, on="key", how="semi")
    twice = looked_for.filter(looked_for["key"].is_duplicated())
    if len(twice):
        key = twice["key"][0]
        numbers = other.numbers.gather(twice.filter(pl.col("key") == key)["place"]).to_list()
        raise SourceError(
            f"{other.name} has {len(numbers)} rows with the key {key!r} (rows {numbers[0]} and {numbers[1]}"
            f"{', ...' if len(numbers) > 2 else ''}), expected one to join to {rows.name}: join on more columns"
        )


def _free_name(column: str, rows: SourceRows, other: SourceRows) -> str:
    if column not in rows.frame.columns:
        return column
    name = f"{Path(other.name).name.split('.')[0]}.{column}"
    if name in {*rows.frame.columns, *other.frame.columns}:
        raise SourceError(f"{rows.name} and {other.name} both have columns {column!r} and {name!r}: rename one")
    return name
