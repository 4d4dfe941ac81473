"""CSV and TSV files, read strictly: a row with too few or too many fields is malformed, never filled up or cut.

A quote that is opened and never closed would swallow the rest of the file as one field. Here it costs the line it
stands on, and reading goes on at the next line.
"""

import csv
import io
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

import polars as pl

from prefkit.errors import SourceError
from prefkit.sources.rows import BadRow, SourceRows, source_rows


def read_csv(data: bytes, name: str) -> SourceRows:
    """The rows of a comma-separated file with a header line; all cells are strings, an empty cell is missing."""
    return _read(data, name, ",")


def read_tsv(data: bytes, name: str) -> SourceRows:
    """The rows of a tab-separated file with a header line; all cells are strings, an empty cell is missing."""
    return _read(data, name, "\t")


def _read(data: bytes, name: str, separator: str) -> SourceRows:
    lines = list(io.StringIO(data.decode(errors="surrogateescape"), newline=""))
    with _fields_of_any_length():
        records = [r for r in _records(lines, separator) if r[1]]
    if not records or not any(name.strip() for name in records[0][1]):
        raise SourceError(f"{name} is empty (an empty dataset), expected a header line and rows")
    header = _header(records[0][1], name)
    good: list[list[str]] = []
    numbers: list[int] = []
    bad: list[BadRow] = []
    for number, fields in records[1:]:
        complaint = _complaint(fields, len(header))
        if complaint is None:
            good.append(list(fields))
            numbers.append(number)
        else:
            bad.append(BadRow(number, complaint))
    frame = pl.DataFrame(good, schema={column: pl.String() for column in header}, orient="row")
    empty_is_missing = pl.all().replace("", None)
    return source_rows(name, numbers, frame.select(empty_is_missing), frozenset(), bad)


def _records(lines: Sequence[str], separator: str) -> Iterator[tuple[int, list[str] | str]]:
    """The line each record begins on, and its fields or what is wrong with it."""
    start = 0
    while start < len(lines):
        begin = start
        rest = (lines[i] for i in range(start, len(lines)))
        reader = csv.reader(rest, delimiter=separator, strict=True)
        try:
            for fields in reader:
                yield begin + 1, fields
                begin = start + reader.line_num
            return
        except csv.Error as error:
            yield begin + 1, str(error)
            start = begin + 1


def _header(fields: list[str] | str, name: str) -> list[str]:
    if isinstance(fields, str):
        raise SourceError(f"the header line of {name} cannot be read: {fields}")
    twice = sorted({f for f in fields if fields.count(f) > 1})
    if twice:
        raise SourceError(f"the header line of {name} has {twice[0]!r} twice, expected unique column names: rename one")
    if _undecodable(fields):
        raise SourceError(f"the header line of {name} is not UTF-8: save the file as UTF-8")
    return fields


def _complaint(fields: list[str] | str, width: int) -> str | None:
    if isinstance(fields, str):
        return fields
    if len(fields) != width:
        return f"{len(fields)} fields, expected {width}"
    return "not UTF-8" if _undecodable(fields) else None


def _undecodable(fields: Sequence[str]) -> bool:
    try:
        "".join(fields).encode()
    except UnicodeEncodeError:
        return True
    return False


@contextmanager
def _fields_of_any_length() -> Generator[None]:
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)
