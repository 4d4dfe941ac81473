"""Fact tables in memory: what the stages of one micro-batch read and write before its recording keeps them.

Small and short-lived, so every read filters the whole table. Its version number of a table is how many batches it has.
"""

from collections.abc import Iterator, Mapping, Sequence

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from prefkit.records import FACT_TABLES, FactTable
from prefkit.store.batch_ids import new_batch_id
from prefkit.store.facts import Where

BATCH_ID = "batch_id"


class MemoryFacts:
    """A `FactStore` that lives as long as the process."""

    def __init__(self) -> None:
        self._batches: dict[str, list[pa.Table]] = {name: [] for name in FACT_TABLES}

    def append(self, table: FactTable, rows: pa.Table) -> bytes:
        batch_id = new_batch_id()
        ids = pa.array([batch_id] * rows.num_rows, table.schema.field(BATCH_ID).type)
        self._batches[table.name].append(rows.append_column(table.schema.field(BATCH_ID), ids))
        return batch_id

    def read(
        self, table: FactTable, columns: Sequence[str], where: Where | None = None, at: int | None = None
    ) -> pl.DataFrame:
        found = pl.from_arrow(self._matching(table, columns, where, at))
        assert isinstance(found, pl.DataFrame)
        return found

    def batches(
        self, table: FactTable, columns: Sequence[str], where: Where | None = None, at: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        rows = self._matching(table, columns, where, at)
        yield from rows.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], rows.schema)]

    def gather(self, table: FactTable, columns: Sequence[str], ids: pl.Series, at: int) -> pl.DataFrame:
        return self.read(table, columns, {"id": ids.to_list()}, at)

    def count(self, table: FactTable, at: int) -> int:
        return sum(batch.num_rows for batch in self._batches[table.name][:at])

    def heads(self) -> dict[str, int]:
        return {name: len(batches) for name, batches in self._batches.items()}

    def compact(self, table: FactTable) -> None:
        """Nothing to merge."""

    def pin(self, label: str, versions: Mapping[str, int]) -> None:
        """Nothing is ever removed."""

    def unpin(self, label: str) -> None:
        """Nothing is ever removed."""

    def rows(self, table: FactTable) -> pa.Table:
        """Everything of a table, in the order it came, without batch ids."""
        return self._whole(table, None).drop_columns(BATCH_ID)

    def _whole(self, table: FactTable, at: int | None) -> pa.Table:
        fields = [field for field in table.schema if field.name != "row_hash"]
        batches = self._batches[table.name][:at]
        return pa.concat_tables(batches) if batches else pa.schema(fields).empty_table()

    def _matching(self, table: FactTable, columns: Sequence[str], where: Where | None, at: int | None) -> pa.Table:
        rows = self._whole(table, at)
        for name, value in (where or {}).items():
            one = isinstance(value, str | int | bytes)
            values = pa.array([value] if one else list(value), rows.schema.field(name).type)
            rows = rows.filter(pc.field(name).isin(values))
        return rows.select(list(dict.fromkeys(columns)))
