"""Bringing a file's prompts into the fact tables as the content of a named source.

A source mirrors its file: importing a changed file under the same name replaces what the source holds. Facts stay,
since versions made from them do; the newest row of `imports` says which tasks the source holds now.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa

from prefkit.errors import NotFoundError, suggestion
from prefkit.records import IMPORTS, PROMPTS, TASKS, FactTable
from prefkit.sources.files import file_fingerprint, read_rows
from prefkit.sources.prompts import ImportOutcome, PromptImport, prompt_tasks
from prefkit.store.batch_ids import new_batch_id
from prefkit.store.facts import FactStore, settled


@dataclass(frozen=True, slots=True)
class Import:
    """One import: which file became which source, and what became of its rows."""

    id: bytes
    source: str
    fingerprint: str
    outcomes: Mapping[str, int]
    new_prompts: int = 0
    new_tasks: int = 0


def import_prompts(facts: FactStore, path: Path, mapping: Mapping[str, str], source: str) -> Import:
    """Makes the file the content of the source; an unchanged file changes nothing."""
    fingerprint = file_fingerprint(path, mapping)
    known = newest_import(facts, source)
    if known and known.fingerprint == fingerprint:
        return known
    read = prompt_tasks(read_rows(path), mapping, source)
    new_prompts = _append_new(facts, PROMPTS, read.prompts)
    new_tasks = _append_new(facts, TASKS, read.tasks)
    row = _import_row(read, fingerprint, path)
    facts.append(IMPORTS, row)
    return Import(row["id"][0].as_py(), source, fingerprint, read.counts(), new_prompts, new_tasks)


def newest_import(facts: FactStore, source: str, at: int | None = None) -> Import | None:
    """The import that says what a source holds now, if there is one."""
    rows = facts.read(IMPORTS, ["id", "fingerprint", "outcomes"], {"source": source}, at).sort("id").tail(1)
    if rows.is_empty():
        return None
    found = rows.row(0, named=True)
    return Import(found["id"], source, found["fingerprint"], json.loads(found["outcomes"]))


def require_import(facts: FactStore, source: str) -> Import:
    """The newest import of a source, or NotFoundError."""
    if found := newest_import(facts, source):
        return found
    known = sorted(set(facts.read(IMPORTS, ["source"])["source"]))
    hint = suggestion(source, known) if known else "; there is none yet, run `prefkit import`"
    raise NotFoundError(f"source {source!r} was never imported{hint}")


def import_by_id(facts: FactStore, import_id: bytes, at: int | None) -> Import:
    """The import with this id, as of a table version."""
    found = facts.read(IMPORTS, ["source", "fingerprint", "outcomes"], {"id": import_id}, at).row(0, named=True)
    return Import(import_id, found["source"], found["fingerprint"], json.loads(found["outcomes"]))


def source_tasks(facts: FactStore, import_id: bytes, pins: Mapping[str, int]) -> pl.DataFrame:
    """The tasks of an import: `task_id`, `prompt_id`, `answer`, `source`, `split`, `metadata`, and `messages`."""
    held = facts.read(IMPORTS, ["source", "task_ids"], {"id": import_id}, pins["imports"])
    columns = ["id", "batch_id", "prompt_id", "answer", "source", "split", "metadata"]
    tasks = settled(facts.read(TASKS, columns, {"source": held["source"][0]}, pins["tasks"])).rename({"id": "task_id"})
    wanted = held.select(task_id=pl.col("task_ids").explode())
    messages = settled(facts.read(PROMPTS, ["id", "batch_id", "messages"], at=pins["prompts"]))
    chosen = wanted.join(tasks.drop("batch_id"), on="task_id", how="inner")
    return chosen.join(messages.select(prompt_id="id", messages="messages"), on="prompt_id", how="inner")


def _append_new(facts: FactStore, table: FactTable, rows: pa.Table) -> int:
    have = facts.read(table, ["id"])
    ids = pl.DataFrame({"id": pl.from_arrow(rows["id"])}).with_row_index()
    new = ids.join(have, on="id", how="anti")["index"].to_arrow()
    if len(new):
        facts.append(table, rows.take(new))
    return len(new)


def _import_row(read: PromptImport, fingerprint: str, path: Path) -> pa.Table:
    dropped = read.outcomes.filter(pl.col("outcome") != ImportOutcome.IMPORTED)
    values = {
        "id": [new_batch_id()],
        "source": [read.source],
        "fingerprint": [fingerprint],
        "origin": [path.name],
        "task_ids": [read.tasks["id"].to_pylist()],
        "outcomes": [json.dumps(read.counts())],
        "dropped": [dropped.to_dicts()],
    }
    return pa.table({name: pa.array(column, IMPORTS.schema.field(name).type) for name, column in values.items()})
