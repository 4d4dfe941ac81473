"""JSON files: one object per line, or one array of objects.

Each line is parsed by itself, so a bad line costs that line. Typed columnar readers are not used here: they write mixed
columns as strings, read only the keys of the first rows, and turn a lone surrogate into a NUL, all without a word.
"""

import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeGuard

import polars as pl

from prefkit.errors import SourceError
from prefkit.identity import Json, canonical_json
from prefkit.sources.rows import BadRow, SourceRows, source_rows

MAX_COLUMNS = 2_000
"""More different keys than this are no table, but for example an object keyed by id."""
MAX_DEPTH = 200
"""Deeper lists and objects are refused, here and not at the end of a stack that is as long as its use allows."""

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


def read_json_lines(data: bytes, name: str) -> SourceRows:
    """The objects of a file with one JSON object per line; blank lines are no rows."""
    records: list[dict[str, Json]] = []
    numbers: list[int] = []
    bad: list[BadRow] = []
    for number, line in enumerate(io.BytesIO(data), start=1):
        if not line.strip():
            continue
        try:
            records.append(_record(line))
        except (ValueError, RecursionError) as error:
            bad.append(BadRow(number, _reason(error)))
        else:
            numbers.append(number)
    return _table(records, numbers, bad, name)


def read_json(data: bytes, name: str) -> SourceRows:
    """The objects of a `.json` file: an array of them, or one per line."""
    if not data.lstrip().startswith(b"["):
        return read_json_lines(data, name)
    try:
        items = _DECODER.decode(data.decode())
    except (ValueError, RecursionError) as error:
        raise SourceError(
            f"{name} is no JSON array ({_reason(error)}), expected an array of objects: "
            "repair it, or write one object per line"
        ) from None
    records: list[dict[str, Json]] = []
    numbers: list[int] = []
    bad: list[BadRow] = []
    for number, item in enumerate(items, start=1):
        try:
            records.append(_checked(item, surrogates=True, deep=True))
        except (ValueError, RecursionError) as error:
            bad.append(BadRow(number, _reason(error)))
        else:
            numbers.append(number)
    return _table(records, numbers, bad, name)


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {digits[:20]} is too large")
    return value


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    """The object of these pairs. Of a key that is given twice nobody can say which value is meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"an object has the key {next(n for n in names if names.count(n) > 1)[:80]!r} twice")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite)


def _record(line: bytes) -> dict[str, Json]:
    text = line.decode()
    surrogates = _SURROGATE_ESCAPE.search(text) is not None
    return _checked(
        _DECODER.decode(text.strip("\r\n\t ")), surrogates, deep=text.count("[") + text.count("{") > MAX_DEPTH
    )


def _checked(value: Json, surrogates: bool, deep: bool) -> dict[str, Json]:
    """The value as an object; `surrogates` and `deep` say which faults it may have."""
    if not _is_object(value):
        raise ValueError(f"a {type(value).__name__}, expected an object")
    if deep:
        _refuse_depth(value)
    if surrogates:
        canonical_json(value)
    return value


def _refuse_depth(value: Json) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for parent in level for child in _children(parent)]
    if level:
        raise RecursionError


def _children(value: Json) -> Iterable[Json]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list) else ()


def _is_object(value: Json) -> TypeGuard[dict[str, Json]]:
    return isinstance(value, dict)


def _reason(error: ValueError | RecursionError) -> str:
    match error:
        case UnicodeDecodeError():
            return f"not UTF-8 at byte {error.start + 1}"
        case json.JSONDecodeError():
            return f"{error.msg} at character {error.pos + 1}"
        case RecursionError():
            return "nested too deeply"
        case _:
            return str(error)


def _table(records: Sequence[dict[str, Json]], numbers: Sequence[int], bad: Sequence[BadRow], name: str) -> SourceRows:
    """The rows, column by column. Takes the values out of the records as it goes: large texts are not kept twice."""
    names = list(dict.fromkeys(key for record in records for key in record))
    if len(names) > MAX_COLUMNS:
        raise SourceError(
            f"{name} has {len(names)} different keys, expected at most {MAX_COLUMNS}: "
            "write one object with the same keys per row"
        )
    columns: list[pl.Series] = []
    json_columns: set[str] = set()
    for column in names:
        values = [record.pop(column, None) for record in records]
        if not {type(value) for value in values} <= {str, type(None)}:
            json_columns.add(column)
            values = [None if value is None else canonical_json(value).decode() for value in values]
        columns.append(pl.Series(column, values, pl.String))
    return source_rows(name, numbers, pl.DataFrame(columns), frozenset(json_columns), bad)
