"""`prefkit import`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import polars as pl
from cyclopts import Parameter
from cyclopts.validators import Number

from prefkit.cli.console import counted, say, say_all, say_json, table
from prefkit.cli.options import AsJson, WorkspacePath, opened
from prefkit.cli.texts import conversation_text, one_row
from prefkit.errors import NotBuiltError, RecipeError, suggestion
from prefkit.pipeline.importing import Import, import_prompts
from prefkit.sources.files import read_rows
from prefkit.sources.prompts import FIELDS, PromptImport, prompt_tasks

KINDS = ("prompts",)
LATER = ("completions", "preferences", "scores")


def import_file(
    file: Path,
    /,
    *,
    as_: Annotated[str, Parameter(name="--as")],
    name: str | None = None,
    map_: Annotated[list[str] | None, Parameter(name="--map")] = None,
    preview: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    json: AsJson = False,
    workspace: WorkspacePath = None,
) -> None:
    """Bring a file into the workspace under a name, which recipes use as `prompts: {imported: NAME}`.

    Parameters
    ----------
    file
        A JSONL, JSON, CSV, TSV or Parquet file, also compressed (.gz, .zst).
    as_
        What the rows are: prompts.
    name
        Name of the source. By default the file's name without its endings.
    map_
        Our column and yours, as in prompt=question (prompt, answer, split, metadata). May be repeated.
    preview
        Show this many rows as they would be imported, and import nothing.
    json
        Print JSON.
    """
    _require_kind(as_)
    mapping = mapped(map_ or [])
    source = name or file.name.split(".")[0]
    if preview:
        _show_preview(prompt_tasks(read_rows(file), mapping, source), preview, json)
        return
    target = opened(workspace)
    with target.shared():
        done = import_prompts(target.facts, file, mapping, source)
    _show_import(done, json)


def mapped(pairs: Sequence[str]) -> dict[str, str]:
    """`ours=theirs` pairs as a mapping. Raises RecipeError."""
    mapping: dict[str, str] = {}
    for pair in pairs:
        ours, equals, theirs = pair.partition("=")
        if not (ours and equals and theirs):
            raise RecipeError(f"--map got {pair!r}, expected OURS=THEIRS, as in `--map prompt=question`")
        if ours not in FIELDS:
            raise RecipeError(
                f"--map names {ours!r}, expected one of {', '.join(FIELDS)}{suggestion(ours, list(FIELDS))}"
            )
        if ours in mapping:
            raise RecipeError(f"--map names {ours!r} twice, expected once: remove one")
        mapping[ours] = theirs
    return mapping


def _require_kind(kind: str) -> None:
    if kind in LATER:
        raise NotBuiltError(f"--as {kind} is not built yet, expected --as prompts")
    if kind not in KINDS:
        raise RecipeError(f"--as got {kind!r}, expected one of {', '.join(KINDS)}{suggestion(kind, list(KINDS))}")


def _show_import(done: Import, json: bool) -> None:
    rows = sum(done.outcomes.values())
    if json:
        say_json(
            {
                "source": done.source, "fingerprint": done.fingerprint, "rows": rows, "outcomes": dict(done.outcomes),
                "new_prompts": done.new_prompts, "new_tasks": done.new_tasks,
            }
        )  # fmt: skip
        return
    say(
        f"{done.source}: {counted(rows, 'row')} ({_listed(done.outcomes)}); "
        f"{counted(done.new_prompts, 'new prompt')}, {counted(done.new_tasks, 'new task')}"
    )


def _show_preview(read: PromptImport, rows: int, json: bool) -> None:
    messages = dict(zip(read.prompts["id"].to_pylist(), read.prompts["messages"].to_pylist(), strict=True))
    tasks = [task | {"prompt": messages[task["prompt_id"]]} for task in read.tasks.slice(0, rows).to_pylist()]
    refused = read.outcomes.filter(~pl.col("outcome").is_in(["imported", "duplicate"])).head(rows).to_dicts()
    if json:
        told = [{k: t[k] for k in ("prompt", "answer", "split", "metadata")} for t in tasks]
        say_json({"source": read.source, "outcomes": read.counts(), "tasks": told, "refused": refused})
        return
    say(f"{read.source}: {counted(len(read.outcomes), 'row')} ({_listed(read.counts())}); nothing was imported")
    lines = [(one_row(conversation_text(t["prompt"])), t["answer"] or "-", t["split"] or "-") for t in tasks]
    say_all([table(["prompt", "answer", "split"], lines)])
    if refused:
        say_all([table(["row", "outcome", "detail"], [(r["row"], r["outcome"], r["detail"] or "") for r in refused])])


def _listed(outcomes: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.items())
