"""Rows of a file in memory, and what an adapter made of them."""

import io
import json
from collections.abc import Mapping, Sequence

import polars as pl

from prefkit.sources.adapters import adapter
from prefkit.sources.json_lines import read_json_lines
from prefkit.sources.rows import SourceRows, source_rows
from prefkit.sources.shaped import Shaped

NAME = "set.jsonl"


def json_rows(*records: Mapping[str, object]) -> SourceRows:
    """Rows as the JSON Lines reader gives them."""
    return read_json_lines("\n".join(json.dumps(record) for record in records).encode(), NAME)


def parquet_rows(*records: Mapping[str, object]) -> SourceRows:
    """Rows as the Parquet reader gives them: nested columns are typed, and absent fields are null."""
    file = io.BytesIO()
    pl.DataFrame(list(records), infer_schema_length=None).write_parquet(file)
    file.seek(0)
    frame = pl.read_parquet(file)
    return source_rows("set.parquet", range(1, len(frame) + 1), frame, frozenset(), [])


def shaped(name: str, *records: Mapping[str, object]) -> Shaped:
    """What the adapter makes of JSON rows."""
    return adapter(name)(json_rows(*records))


def refusals(found: Shaped) -> list[tuple[int, str, str]]:
    """`row`, `what` and `outcome` of everything that was refused."""
    return found.refused.select("row", "what", "outcome").rows()


def texts(frame: pl.DataFrame, *columns: str) -> list[tuple[object, ...]]:
    """The rows of some columns."""
    return frame.select(columns).rows()


def messages(*turns: str) -> list[dict[str, str]]:
    """A conversation in which the user begins and the speakers take turns."""
    return [{"role": ("user", "assistant")[place % 2], "content": turn} for place, turn in enumerate(turns)]


def spelled(turns: Sequence[Mapping[str, str]]) -> str:
    """The text of a cell that holds messages."""
    return json.dumps(turns, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
