"""What imports brought, as builds read it: which tasks, completions, scores and comparisons a source holds.

The newest import of a source says what the source holds. Other sources may feed it: they rate or complete its prompts
(`prompts_source` is its name), and a build over the source reads what the newest import of each of them holds as well.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from prefkit.errors import NotFoundError, suggestion
from prefkit.records import IMPORTS, PROMPTS, TASKS
from prefkit.store.facts import FactStore, Where, settled

Held = Literal["task_ids", "completion_ids", "score_ids", "comparison_ids"]
_COLUMNS = ("id", "source", "prompts_source", "fingerprint", "outcomes")
_TASK = ("task_id", "prompt_id", "answer", "source", "split", "metadata", "messages")


@dataclass(frozen=True, slots=True)
class Import:
    """One import: which files became which source, and what became of their records."""

    id: bytes
    source: str
    prompts_source: str
    """The source whose prompts it is about: its own name, or that of the import it took its prompts from."""
    fingerprint: str
    outcomes: Mapping[str, Mapping[str, int]]
    """Prompts, completions, scores and comparisons, each to its records by outcome; kinds without any are left out."""


def newest_import(facts: FactStore, source: str, at: int | None = None) -> Import | None:
    """The import that says what a source holds, as of a version of the imports table; None for an unknown source."""
    found = _imports(facts, {"source": source}, at)
    return found[-1] if found else None


def require_import(facts: FactStore, source: str, at: int | None = None) -> Import:
    """The newest import of a source, or NotFoundError."""
    if found := newest_import(facts, source, at):
        return found
    known = sorted({imported.source for imported in _imports(facts, None, at)})
    hint = suggestion(source, known) if known else "; there is none yet, run `prefkit import`"
    raise NotFoundError(f"source {source!r} was never imported{hint}")


def imports_by_id(facts: FactStore, ids: Sequence[bytes], at: int | None) -> tuple[Import, ...]:
    """The imports with these ids, in their order. Raises NotFoundError for an id that there is not."""
    found = {imported.id: imported for imported in _imports(facts, {"id": list(ids)}, at)}
    for unknown in (i for i in ids if i not in found):
        raise NotFoundError(f"import {unknown.hex()} is not in the workspace, expected it: verify the workspace")
    return tuple(found[i] for i in ids)


def feeding(facts: FactStore, source: str, at: int | None = None) -> tuple[Import, ...]:
    """The newest imports about the prompts of a source: its own first, the others by name. Raises NotFoundError."""
    own = require_import(facts, source, at)
    newest = {imported.source: imported for imported in _imports(facts, None, at)}
    others = (i for i in newest.values() if i.prompts_source == source and i.source != source)
    return own, *sorted(others, key=lambda imported: imported.source)


def held(facts: FactStore, imports: Sequence[Import], what: Held, at: int | None) -> pl.Series:
    """The distinct ids of what the imports hold, in their order and that of the files."""
    order = pl.DataFrame({"id": pl.Series([i.id for i in imports], dtype=pl.Binary)})
    rows = facts.read(IMPORTS, ["id", what], {"id": order["id"].to_list()}, at)
    listed = order.join(rows, on="id", how="left", maintain_order="left")
    return listed[what].explode(empty_as_null=False).drop_nulls().unique(maintain_order=True)


def source_tasks(facts: FactStore, imports: Sequence[Import], pins: Mapping[str, int]) -> pl.DataFrame:
    """The tasks of the first import, then those of the others whose prompts none before them has.

    Columns `task_id`, `prompt_id`, `answer`, `source`, `split`, `metadata` and `messages`.
    """
    tasks = _tasks(facts, held(facts, imports[:1], "task_ids", pins[IMPORTS.name]), pins)
    for other in imports[1:]:
        more = _tasks(facts, held(facts, [other], "task_ids", pins[IMPORTS.name]), pins)
        tasks = pl.concat([tasks, more.join(tasks, on="prompt_id", how="anti", maintain_order="left")])
    return tasks


def _tasks(facts: FactStore, ids: pl.Series, pins: Mapping[str, int]) -> pl.DataFrame:
    columns = ["id", "batch_id", "prompt_id", "answer", "source", "split", "metadata"]
    found = settled(facts.gather(TASKS, columns, ids, pins[TASKS.name])).rename({"id": "task_id"})
    tasks = pl.DataFrame({"task_id": ids}).join(found, on="task_id", how="inner", maintain_order="left")
    prompts = facts.gather(PROMPTS, ["id", "batch_id", "messages"], tasks["prompt_id"].unique(), pins[PROMPTS.name])
    messages = settled(prompts).select("messages", prompt_id="id")
    return tasks.join(messages, on="prompt_id", how="inner", maintain_order="left").select(_TASK)


def _imports(facts: FactStore, where: Where | None, at: int | None) -> list[Import]:
    """The imports, oldest first."""
    rows = facts.read(IMPORTS, _COLUMNS, where, at).sort("id")
    return [Import(i, source, of, print_, json.loads(told)) for i, source, of, print_, told in rows.iter_rows()]
