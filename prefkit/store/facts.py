"""The narrow door to the fact tables, and the one rule about rows of equal key.

A `FactStore` appends batches durably and reads columns as of a version number. It knows nothing of recipes. Two
writers, or a retry, may bring rows of one key; `settled` keeps exactly one of each, the same one for every reader: a
value or final failure before a transient one, then the highest attempt, then the smallest batch id.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, TypeAlias

import polars as pl
import pyarrow as pa

from prefkit.records import FactTable

Value: TypeAlias = str | int | bytes
Where: TypeAlias = Mapping[str, Value | Sequence[Value]]
"""Column to the value, or the values, it must equal."""


class FactStore(Protocol):
    """Append-only tables of facts."""

    def append(self, table: FactTable, rows: pa.Table) -> bytes:
        """Adds the rows (every column but `batch_id` and `row_hash`) and returns their batch id.

        When it returns, the rows survive a crash or a power cut. When it raises, they are not there, or they are and a
        retry's rows will be superseded.
        """
        ...

    def read(
        self, table: FactTable, columns: Sequence[str], where: Where | None = None, at: int | None = None
    ) -> pl.DataFrame:
        """The named columns of the rows that match, in no promised order, as of version `at` (None: now)."""
        ...

    def batches(
        self, table: FactTable, columns: Sequence[str], where: Where | None = None, at: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        """What `read` returns, in parts as they come: at least one, which may be empty."""
        ...

    def gather(self, table: FactTable, columns: Sequence[str], ids: pl.Series, at: int) -> pl.DataFrame:
        """The named columns of the rows with these ids, in no promised order, as of version `at`."""
        ...

    def count(self, table: FactTable, at: int) -> int:
        """How many rows a table has as of version `at`, superseded ones included. Reads no row."""
        ...

    def heads(self) -> dict[str, int]:
        """The current version of every table; 0 for one that has no rows yet."""
        ...

    def compact(self, table: FactTable) -> None:
        """Merges a table's small files, so that reading stays fast. Changes no row."""
        ...

    def pin(self, label: str, versions: Mapping[str, int]) -> None:
        """Keeps these table versions readable until the label is unpinned."""
        ...

    def unpin(self, label: str) -> None:
        """Forgets a label; its table versions may go with the next gc."""
        ...


def settled(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows that count, one for each `id`, with a column `superseded`: how many rows of its key it stands for.

    Needs the columns `id` and `batch_id`; `transient` and `attempt` are obeyed where the table has them.
    """
    if rows.select(pl.col("id").bin.reinterpret(dtype=pl.UInt128).n_unique()).item() == rows.height:
        return rows.with_columns(superseded=pl.lit(0, pl.Int64))
    rows = rows.with_columns(superseded=pl.len().over("id").cast(pl.Int64) - 1)
    return by_precedence(rows).unique("id", keep="first", maintain_order=True)


def by_precedence(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows sorted so that of several of one key the first is the one that counts."""
    keys = [pl.col("transient").fill_null(value=False)] if "transient" in rows.columns else []
    keys += [-pl.col("attempt")] if "attempt" in rows.columns else []
    return rows.sort(*keys, "batch_id")
