"""Rows of the fact tables as parts of a story: every row of a key, in the order they were tried."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

import polars as pl

from prefkit.pipeline.tracing.story import Call, Draw, Task
from prefkit.store.batch_ids import batch_time
from prefkit.store.facts import settled

Row: TypeAlias = Mapping[str, Any]
"""A row of a frame; what its columns hold is in `prefkit.records`."""
TRY = ("id", "batch_id", "attempt", "failure", "detail", "transient")
REPLY = ("rationale", "raw", "input_tokens", "output_tokens", "cost")


def tried(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of a fact table in the order they were tried, `superseded` true where another row of the key counts."""
    rows = rows.with_row_index("row")
    counts = pl.col("row").is_in(settled(rows)["row"].implode())
    return rows.with_columns(superseded=~counts).sort("attempt", "batch_id").drop("row")


def by_id(rows: pl.DataFrame) -> list[pl.DataFrame]:
    """The rows of each key, in the order of its first one."""
    return rows.partition_by("id", maintain_order=True)


def draw_of(row: Row) -> Draw:
    """A row of a completion."""
    tokens = None if row["token_ids"] is None else len(row["token_ids"])
    return Draw(**_common(row), completion=row["completion"], finish_reason=row["finish_reason"], tokens=tokens)


def calls_of(rows: pl.DataFrame, value: str) -> tuple[Call, ...]:
    """The rows of one rating, whose `value` is its score or preference."""
    return tuple(
        Call(**_common(row), **{name: row[name] for name in (*REPLY, value)}) for row in rows.iter_rows(named=True)
    )


def _common(row: Row) -> dict[str, Any]:
    names = ("attempt", "failure", "detail", "superseded")
    return {name: row[name] for name in names} | {"transient": bool(row["transient"]), "when": _when(row["batch_id"])}


def task_of(row: Row) -> Task:
    """A row of a task."""
    metadata = json.loads(row["metadata"]) if row["metadata"] else None
    return Task(row["id"].hex(), row["answer"], row["source"], row["split"], metadata, _when(row["batch_id"]))


def _when(batch_id: bytes) -> str:
    return datetime.fromtimestamp(batch_time(batch_id), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
