"""The rows of a source file, before anything is made of them.

A reader turns a file into `SourceRows`: a frame of the rows it could read and an outcome row for every other.
Nothing is coerced on the way. A JSON column that holds more than strings is kept as JSON text, cell by cell, because
one column of one type would turn a list of message parts into the string that spells it.

`cells` then gives any column, from any kind of file, in one form: what kind of JSON value each cell is, and its text.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

from prefkit.errors import SourceError
from prefkit.identity import Json, canonical_json

MALFORMED = "malformed"
OUTCOME_SCHEMA = {"row": pl.Int64(), "outcome": pl.String(), "detail": pl.String()}
CELL_SCHEMA = {"kind": pl.String(), "text": pl.String()}

_LARGEST_EXACT_INTEGER = 2.0**53


class BadRow(NamedTuple):
    """A row that could not be read, and why."""

    row: int
    detail: str


@dataclass(frozen=True, slots=True)
class SourceRows:
    """What a file holds. `numbers` has the length of `frame`; together with `malformed` it names every row once.

    A row's number is the line it begins on, or in Parquet and JSON arrays its place; both count from 1.
    """

    name: str
    """The file, as the user wrote it."""
    numbers: pl.Series
    frame: pl.DataFrame
    json_columns: frozenset[str]
    """Columns of `frame` whose strings are JSON text."""
    malformed: pl.DataFrame
    """`row`, `outcome` (always `malformed`) and `detail`."""


def source_rows(
    name: str,
    numbers: Sequence[int],
    frame: pl.DataFrame,
    json_columns: frozenset[str],
    bad: Sequence[BadRow],
) -> SourceRows:
    """SourceRows from what a reader collects."""
    malformed = pl.DataFrame([(b.row, MALFORMED, b.detail) for b in bad], schema=OUTCOME_SCHEMA, orient="row")
    return SourceRows(name, pl.Series("row", numbers, pl.Int64), frame, json_columns, malformed)


def cells(rows: SourceRows, column: str) -> pl.DataFrame:
    """`kind` and `text` of every cell of a column, both null where the cell is missing.

    Kinds are `string` (text: the string itself), `number` and `boolean` (text as in JSON, but 42.0 is written `42`),
    `list` and `object` (text: canonical JSON) and `unreadable` (text: why). Raises SourceError for a column of a type
    that has no JSON form, such as dates.
    """
    series = rows.frame[column]
    if column in rows.json_columns:
        return _decoded(series)
    if isinstance(series.dtype, pl.String | pl.Categorical | pl.Enum):
        return _of_kind("string", series.cast(pl.String))
    if series.dtype.is_integer():
        return _of_kind("number", series.cast(pl.String))
    if series.dtype == pl.Boolean:
        return _of_kind("boolean", series.cast(pl.String))
    if series.dtype.is_float():
        # Parquet has NaN where a float column has no value
        return _of_kind("number", number_texts(series.fill_nan(None)))
    if series.dtype.is_nested() or series.dtype == pl.Null:
        return _cell_frame([_cell(value) for value in series.to_list()])
    raise SourceError(
        f"column {column!r} of {rows.name} is of type {series.dtype}, expected text, numbers or lists of messages: "
        "convert it to text first"
    )


def _of_kind(kind: str, texts: pl.Series) -> pl.DataFrame:
    text = pl.col("text")
    kinds = pl.when(text.is_not_null()).then(pl.lit(kind)).alias("kind")
    return pl.DataFrame({"text": texts}).select(kinds, text)


def _cell_frame(rows: Sequence[tuple[str | None, str | None]]) -> pl.DataFrame:
    return pl.DataFrame({"kind": [r[0] for r in rows], "text": [r[1] for r in rows]}, schema=CELL_SCHEMA)


def _decoded(texts: pl.Series) -> pl.DataFrame:
    return _cell_frame([(None, None) if text is None else _cell(json.loads(text)) for text in texts.to_list()])


def _cell(value: Json) -> tuple[str | None, str | None]:
    match value:
        case None:
            return None, None
        case str():
            return "string", value
        case bool():
            return "boolean", "true" if value else "false"
        case int():
            return "number", str(value)
        case float():
            return "number", number_text(value)
        case _:
            return _nested_cell(value)


def _nested_cell(value: Json) -> tuple[str, str]:
    kind = "object" if isinstance(value, dict) else "list"
    try:
        return kind, canonical_json(value).decode()
    except (TypeError, ValueError) as error:
        return "unreadable", str(error)


def number_text(value: float) -> str:
    """The shortest JSON of a number, whole ones without a fraction: integers that became floats read as before."""
    if value.is_integer() and abs(value) <= _LARGEST_EXACT_INTEGER:
        return str(int(value))
    return repr(value)


def number_texts(numbers: pl.Series) -> pl.Series:
    """`number_text` of a column of numbers; nulls stay."""
    number = pl.col("number")
    whole = (number == number.floor()) & (number.abs() <= _LARGEST_EXACT_INTEGER)
    # Polars and Python write the same shortest digits, but agree on where an exponent begins only here
    plain = whole | number.abs().is_between(1e-3, 1e15)
    texts = pl.DataFrame({"number": numbers.cast(pl.Float64)}).with_columns(
        text=pl.when(whole)
        .then(pl.when(whole).then(number).cast(pl.Int64).cast(pl.String))
        .when(plain)
        .then(number.cast(pl.String))
    )
    rest = texts.filter(number.is_not_null() & pl.col("text").is_null())["number"].unique()
    if rest.is_empty():
        return texts["text"]
    written = pl.DataFrame({"number": rest, "written": [number_text(value) for value in rest.to_list()]})
    return texts.join(written, on="number", how="left", maintain_order="left").select(
        pl.coalesce("text", "written").alias("text")
    )["text"]
