"""What was linked in the types of `prefkit.records`, a part at a time."""

from collections.abc import Iterator

import polars as pl
import pyarrow as pa

from prefkit.records import COMPLETIONS, FactTable
from prefkit.sources.linking.messages import completion_column

STAMP = ("batch_id", "row_hash")
PART_BYTES = 64 << 20
_FIXED = {
    "policy_version": pa.scalar(0, pa.int64()),
    "transient": pa.scalar(False),
    "attempt": pa.scalar(0, pa.int32()),
}
"""Of the columns that imported rows do not fill from a file, those that are not null."""


def fact_parts(table: FactTable, rows: pl.DataFrame) -> Iterator[pa.Table]:
    """Rows for a fact table, in parts of bounded size; columns that an import knows nothing of are null."""
    if rows.is_empty():
        return
    size = max(1, int(rows.height * PART_BYTES / max(rows.estimated_size(), 1)))
    for part in rows.iter_slices(size):
        yield _as_facts(table, part)


def _as_facts(table: FactTable, rows: pl.DataFrame) -> pa.Table:
    fields = [f for f in table.schema if f.name not in STAMP]
    columns = {f.name: _column(f, rows) for f in fields if not (table is COMPLETIONS and f.name == "completion")}
    if table is COMPLETIONS:
        columns["completion"] = completion_column(rows.select("kind", "text"))
    return pa.table([columns[f.name] for f in fields], schema=pa.schema(fields))


def _column(field: pa.Field, rows: pl.DataFrame) -> pa.Array:
    if field.name in rows.columns:
        return rows[field.name].to_arrow(compat_level=pl.CompatLevel.oldest()).cast(field.type)
    if field.name in _FIXED:
        return pa.repeat(_FIXED[field.name], rows.height)
    return pa.nulls(rows.height, field.type)
