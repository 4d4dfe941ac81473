"""Small legal objects for tests of the store."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from prefkit.records import PROMPTS, FactTable
from prefkit.store.lance_facts import STAMPS, LanceFacts


def facts_in(folder: Path) -> LanceFacts:
    """The fact tables in a folder, opened anew."""
    (folder / "facts").mkdir(exist_ok=True)
    return LanceFacts(folder / "facts", folder / "quarantine")


def row_id(number: int) -> bytes:
    """A 16-byte id for a number."""
    return number.to_bytes(16, "big")


def prompt_table(numbers: Sequence[int], text: str = "question {}") -> pa.Table:
    """Rows for the prompts table, with the number as id."""
    messages = [[{"role": "user", "content": text.format(n)}] for n in numbers]
    return unstamped(PROMPTS, {"id": [row_id(n) for n in numbers], "messages": messages})


def unstamped(table: FactTable, columns: dict[str, list[object]]) -> pa.Table:
    """Rows for a table; columns that are not given are null."""
    fields = [f for f in table.schema if f.name not in STAMPS]
    rows = len(next(iter(columns.values())))
    return pa.table({f.name: pa.array(columns.get(f.name, [None] * rows), f.type) for f in fields})
