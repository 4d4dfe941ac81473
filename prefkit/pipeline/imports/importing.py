"""Bringing files into the fact tables as the content of a named source.

A source mirrors its files: importing changed files under the same name replaces what the source holds. Facts stay,
since versions made from them do; the newest row of `imports` says what the source holds now. It is written last, so
an import that is cut short changes nothing, and the next one finds what it brought.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from prefkit.errors import SourceError
from prefkit.identity import canonical_json, content_id
from prefkit.pipeline.imports.content import Import, newest_import
from prefkit.pipeline.imports.known import known_to, offering, prompts_source
from prefkit.pipeline.imports.row import import_row, same_content
from prefkit.records import COMPARISONS, COMPLETIONS, CONFIGS, IMPORTS, PROMPTS, SCORES, TASKS, FactTable
from prefkit.row_keys import config_row_id
from prefkit.sources.adapters import adapter
from prefkit.sources.columns import require_readable
from prefkit.sources.config import ImportConfig, TableConfig
from prefkit.sources.files import file_fingerprint, read_rows
from prefkit.sources.joining import joined
from prefkit.sources.linking.facts import fact_parts
from prefkit.sources.linking.ratings import scorer_identity
from prefkit.sources.linking.whole import Known, Linked, linked
from prefkit.sources.presets import preset
from prefkit.sources.shaped import Shaped
from prefkit.sources.shaping import shaped
from prefkit.store.facts import FactStore


@dataclass(frozen=True, slots=True)
class Job:
    """An import to be done. `read` opens the files only when it is called."""

    source: str
    prompts_from: str | None
    """Another source whose prompts and completions the files may name."""
    fingerprint: str
    """Of the files' bytes and of what is to be made of them."""
    origin: str
    """The files, by name."""
    read: Callable[[], Sequence[Shaped]]


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did."""

    imported: Import
    new: Mapping[str, int]
    """How many prompts, tasks, completions, scores and comparisons no import had brought before."""
    changed: bool
    """False when the source held exactly this already."""


def file_job(path: Path, kind: str, mapping: Mapping[str, str], source: str, prompts_from: str | None = None) -> Job:
    """The import of one file by a flat mapping (see `prefkit.sources.presets`). Raises SourceError without the file."""

    def read() -> list[Shaped]:
        rows = read_rows(path)
        require_readable(rows)
        return [shaped(rows, preset(kind, mapping, path, rows.frame.columns, source))]

    fingerprint = content_id("import", {"file": file_fingerprint(path, mapping), "as": kind, "source": source}).hex()
    return Job(source, prompts_from, fingerprint, path.name, read)


def tables_job(config: ImportConfig) -> Job:
    """The import of an `import.yaml`. Raises SourceError for a file that cannot be read."""
    files = [path for t in config.tables for path in (t.path, t.join.path if t.join else None) if path is not None]
    said = config.model_dump(mode="json")
    for table in said["tables"]:  # where files lie does not matter
        del table["path"]
        if table["join"]:
            del table["join"]["path"]
    digests = [file_fingerprint(path, {}) for path in files]
    fingerprint = content_id("import", {"files": digests, "import": said}).hex()
    origin = ", ".join(Path(file).name for file in files)
    return Job(config.name, config.prompts_from, fingerprint, origin, lambda: [_table(t) for t in config.tables])


def _table(table: TableConfig) -> Shaped:
    rows = read_rows(table.path)
    if table.join:
        rows = joined(rows, read_rows(table.join.path), table.join)
    return adapter(table.adapter)(rows) if table.adapter else shaped(rows, table)


def import_tables(facts: FactStore, config: ImportConfig) -> Imported:
    """Makes the tables the content of the source that the configuration names; see `run`."""
    return run(facts, tables_job(config))


def import_prompts(facts: FactStore, path: Path, mapping: Mapping[str, str], source: str) -> Imported:
    """Makes the prompts of a file the content of the source; see `run`."""
    return run(facts, file_job(path, "prompts", mapping, source))


def previewed(facts: FactStore | None, job: Job) -> Linked:
    """What the import would bring. An import that refers to another source needs the facts."""
    if facts is None or job.prompts_from is None:
        return linked(job.read(), job.source, Known())
    of = prompts_source(facts, job.source, job.prompts_from)
    return linked(job.read(), job.source, known_to(facts, offering(facts, job.source, of)))


def linked_tasks(found: Linked) -> pl.DataFrame:
    """The tasks in words, as `source_tasks` would read them after the import."""
    messages = found.prompts.rename({"id": "prompt_id"})
    tasks = found.tasks.rename({"id": "task_id"})
    return tasks.join(messages, on="prompt_id", how="inner", maintain_order="left")


def run(facts: FactStore, job: Job) -> Imported:
    """Makes the files the content of the source; unchanged files change nothing.

    Raises SourceError when none of their records can be imported, and what reading them raises.
    """
    of = prompts_source(facts, job.source, job.prompts_from)
    others = offering(facts, job.source, of)
    fingerprint = _fingerprint(job, others)
    newest = newest_import(facts, job.source)
    if newest and (newest.fingerprint, newest.prompts_source) == (fingerprint, of):
        return Imported(newest, {}, changed=False)
    found = linked(job.read(), job.source, known_to(facts, others))
    _require_something(found, job.origin)
    new = _appended(facts, found)
    row = import_row(found, of, fingerprint, job.origin)
    if newest and same_content(facts, newest, row):
        return Imported(newest, new, changed=False)
    facts.append(IMPORTS, row)
    imported = Import(row["id"][0].as_py(), job.source, of, fingerprint, found.counts())
    return Imported(imported, new, changed=True)


def _fingerprint(job: Job, others: Sequence[Import]) -> str:
    """Of the job and, after it, of what the files of the sources say that it refers to."""
    if not others:
        return job.fingerprint
    length = len(job.fingerprint)
    return job.fingerprint + content_id("known", [[i.source, i.fingerprint[:length]] for i in others]).hex()


def _require_something(found: Linked, origin: str) -> None:
    if any(frame.height for frame in (found.tasks, found.completions, found.scores, found.comparisons)):
        return
    told = [
        f"{count} {outcome}" if what == "prompts" else f"{what}: {count} {outcome}"
        for what, outcomes in found.counts().items()
        for outcome, count in sorted(outcomes.items())
    ]
    raise SourceError(
        f"{origin} is an empty dataset: no row can be imported ({', '.join(told) or 'it has none'}); "
        "check the file and the mapping"
    )


def _appended(facts: FactStore, found: Linked) -> dict[str, int]:
    """Appends what there is not yet, scorers first, and counts it."""
    _append_new(facts, CONFIGS, _scorers(found.scorers))
    frames = {
        PROMPTS: found.prompts, TASKS: found.tasks, COMPLETIONS: found.completions, SCORES: found.scores,
        COMPARISONS: found.comparisons,
    }  # fmt: skip
    return {table.name: _append_new(facts, table, rows) for table, rows in frames.items()}


def _append_new(facts: FactStore, table: FactTable, rows: pl.DataFrame) -> int:
    if rows.is_empty():
        return 0
    new = rows.join(facts.read(table, ["id"]), on="id", how="anti", maintain_order="left")
    for part in fact_parts(table, new):
        facts.append(table, part)
    return new.height


def _scorers(scorers: pl.DataFrame) -> pl.DataFrame:
    named = scorers.select("name", "scorer_id").rows()
    return pl.DataFrame(
        {
            "id": [config_row_id("scorer", number, name) for name, number in named],
            "kind": ["scorer"] * len(named),
            "config_id": [number for _, number in named],
            "name": [name for name, _ in named],
            "json": [canonical_json(scorer_identity(name)).decode() for name, _ in named],
        },
        schema={"id": pl.Binary, "kind": pl.String, "config_id": pl.Int64, "name": pl.String, "json": pl.String},
    )
