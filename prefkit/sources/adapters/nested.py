"""Lists and objects in cells, opened into tables.

Each opened table is `SourceRows` again: the same functions read the columns of a file and the fields of an object
three levels down. A row of it has the number of the file's row it lies in, and `place` says where in the list: labels
are joined by both, never by counting rows. What is not as the shape has it is an outcome of that one cell.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import polars as pl

from prefkit.identity import Json, canonical_json
from prefkit.sources.adapters.columns import cells_of
from prefkit.sources.rows import MALFORMED, OUTCOME_SCHEMA, SourceRows, source_rows

ITEM = "item"


@dataclass(frozen=True, slots=True)
class Opened:
    """Items of lists, or entries of objects."""

    table: SourceRows
    """One row per item, in a column `item`."""
    places: pl.DataFrame
    """For every row of `table`: `row` of the file, `parent` (row of the table it was opened from, from 0), `place` in
    its list (from 0), and `name` where it is an entry of an object."""
    missing: pl.DataFrame
    """`row`, `outcome` and `detail` of the cells that are null: for the adapter to say whether that is a mistake."""
    broken: pl.DataFrame
    """The same of the cells that hold something else."""


class _Cell(NamedTuple):
    parent: int
    row: int
    kind: str | None
    text: str


def list_items(rows: SourceRows, column: str) -> Opened:
    """The items of the lists in a column."""
    found = list(_found(rows, column))
    items = (
        (cell.row, cell.parent, place, None, _written(item))
        for cell in found
        if cell.kind == "list"
        for place, item in enumerate(cast("list[Json]", json.loads(cell.text)))
    )
    return _opened(rows.name, items, found, column, "list")


def object_entries(rows: SourceRows, column: str) -> Opened:
    """The values of the objects in a column, each with its `name`."""
    found = list(_found(rows, column))
    entries = (
        (cell.row, cell.parent, place, name, _written(value))
        for cell in found
        if cell.kind == "object"
        for place, (name, value) in enumerate(cast("dict[str, Json]", json.loads(cell.text)).items())
    )
    return _opened(rows.name, entries, found, column, "object")


def object_fields(rows: SourceRows, column: str, fields: Iterable[str]) -> SourceRows:
    """A table of the same length, with fields of the column's objects as its columns: null where there are none."""
    objects = [
        cast("dict[str, Json]", json.loads(cell.text)) if cell.kind == "object" else {} for cell in _found(rows, column)
    ]
    columns = [pl.Series(field, [_written(o.get(field)) for o in objects], pl.String) for field in fields]
    return source_rows(rows.name, rows.numbers.to_list(), pl.DataFrame(columns), frozenset(fields), [])


def not_objects(rows: SourceRows, column: str, called: str) -> pl.DataFrame:
    """`outcome` and `detail` for the cells that hold no object."""
    kind = pl.col("kind").fill_null("null")
    wrong = kind != "object"
    return cells_of(rows, column).select(
        pl.when(wrong).then(pl.lit(MALFORMED)).alias("outcome"),
        pl.when(wrong).then(pl.format("{} is of kind {}, expected an object", pl.lit(called), kind)).alias("detail"),
    )


def uneven(first: Opened, other: Opened, called: str) -> pl.DataFrame:
    """`row`, `outcome` and `detail` of rows whose two lists have different lengths: then places mean nothing."""
    counts = [opened.places.group_by("row").len(name) for opened, name in ((first, "of_first"), (other, "of_other"))]
    lengths = counts[0].join(counts[1], on="row", how="full", coalesce=True).fill_null(0)
    unreadable = pl.concat([first.missing, first.broken, other.missing, other.broken]).select("row")
    differing = lengths.filter(pl.col("of_first") != pl.col("of_other")).join(unreadable, on="row", how="anti")
    detail = pl.format("{} {}, expected {}", "of_other", pl.lit(called), "of_first")
    return differing.sort("row").select("row", pl.lit(MALFORMED).alias("outcome"), detail.alias("detail"))


def _found(rows: SourceRows, column: str) -> Iterator[_Cell]:
    found = cells_of(rows, column)
    for parent, (row, kind, text) in enumerate(zip(rows.numbers, found["kind"], found["text"], strict=True)):
        yield _Cell(parent, row, kind, text)


def _opened(
    name: str,
    items: Iterable[tuple[int, int, int, str | None, str | None]],
    found: Sequence[_Cell],
    column: str,
    expected: str,
) -> Opened:
    schema = {"row": pl.Int64(), "parent": pl.Int64(), "place": pl.Int64(), "name": pl.String(), ITEM: pl.String()}
    frame = pl.DataFrame(list(items), schema=schema, orient="row")
    table = source_rows(name, frame["row"].to_list(), frame.select(ITEM), frozenset({ITEM}), [])
    wrong = [cell for cell in found if cell.kind not in (expected, None)]
    return Opened(
        table,
        frame.drop(ITEM),
        _outcomes((cell.row, f"{column} is missing") for cell in found if cell.kind is None),
        _outcomes((cell.row, f"{column} is of kind {_kind(cell)}, expected {expected}") for cell in wrong),
    )


def _outcomes(told: Iterable[tuple[int, str]]) -> pl.DataFrame:
    return pl.DataFrame([(row, MALFORMED, detail) for row, detail in told], schema=OUTCOME_SCHEMA, orient="row")


def _kind(cell: _Cell) -> str:
    return f"unreadable ({cell.text})" if cell.kind == "unreadable" else str(cell.kind)


def _written(value: Json) -> str | None:
    return None if value is None else canonical_json(value).decode()
