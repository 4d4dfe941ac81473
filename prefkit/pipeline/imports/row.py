"""The row of `imports` that says what a source holds."""

import json

import polars as pl
import pyarrow as pa

from prefkit.pipeline.imports.content import Import
from prefkit.records import IMPORTS
from prefkit.sources.linking.whole import Linked
from prefkit.sources.outcomes import ImportOutcome
from prefkit.store.batch_ids import new_batch_id
from prefkit.store.facts import FactStore

_TOLD_APART = ("id", "fingerprint", "batch_id", "row_hash")
"""Columns that two imports of one content may differ in."""


def import_row(found: Linked, prompts_source: str, fingerprint: str, origin: str) -> pa.Table:
    """The row, for the store to stamp."""
    whole = [ImportOutcome.IMPORTED, ImportOutcome.DRAW]
    values: dict[str, str | bytes | pl.Series] = {
        "id": new_batch_id(),
        "source": found.source,
        "prompts_source": prompts_source,
        "fingerprint": fingerprint,
        "origin": origin,
        "task_ids": found.tasks["id"],
        "prompt_keys": found.prompt_keys.select("key", "prompt_id").to_struct(),
        "completion_ids": found.completion_keys["completion_id"],
        "completion_keys": found.completion_keys["key"],
        "score_ids": found.scores["id"],
        "comparison_ids": found.comparisons["id"],
        "outcomes": json.dumps(found.counts()),
        "dropped": found.outcomes.filter(~pl.col("outcome").is_in(whole)).to_struct(),
    }
    return pa.table({name: _cell(value, IMPORTS.schema.field(name).type) for name, value in values.items()})


def same_content(facts: FactStore, imported: Import, row: pa.Table) -> bool:
    """Whether an import holds exactly what the row says."""
    columns = [name for name in IMPORTS.schema.names if name not in _TOLD_APART]
    stored = facts.read(IMPORTS, columns, {"id": imported.id}).to_arrow(compat_level=pl.CompatLevel.oldest())
    schema = pa.schema([IMPORTS.schema.field(name) for name in columns])
    return stored.cast(schema).equals(row.select(columns))


def _cell(value: str | bytes | pl.Series, kind: pa.DataType) -> pa.Array:
    if isinstance(value, pl.Series):
        items = value.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(kind.value_type)
        return pa.ListArray.from_arrays(pa.array([0, len(items)], pa.int32()), items, type=kind)
    return pa.array([value], kind)
