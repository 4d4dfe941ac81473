"""`prefkit import`."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from prefkit.cli.console import counted, say, say_json
from prefkit.cli.import_preview import listed, show_preview
from prefkit.cli.options import AsJson, WorkspacePath, opened
from prefkit.errors import RecipeError
from prefkit.pipeline.imports.importing import Imported, Job, file_job, previewed, run, tables_job
from prefkit.pipeline.resolve import stem
from prefkit.sources.adapters import ADAPTERS
from prefkit.sources.config import NAME, ImportConfig, TableConfig
from prefkit.sources.import_file import load_import
from prefkit.sources.presets import KINDS

YAML = (".yaml", ".yml")


def import_file(
    file: Path,
    /,
    *,
    as_: Annotated[str | None, Parameter(name="--as")] = None,
    adapter: str | None = None,
    name: str | None = None,
    map_: Annotated[list[str] | None, Parameter(name="--map")] = None,
    key: str | None = None,
    prompts_from: str | None = None,
    preview: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    json: AsJson = False,
    workspace: WorkspacePath = None,
) -> None:
    """Bring a file into the workspace under a name, which recipes use as `prompts: {imported: NAME}`.

    Parameters
    ----------
    file
        A JSONL, JSON, CSV, TSV or Parquet file, also compressed (.gz, .zst), or an import.yaml that names several.
    as_
        What the rows are: prompts, completions, scores, comparisons or preferences (chosen and rejected).
    adapter
        What the rows are, by the name of a known shape.
    name
        Name of the source. By default the file's name without its endings.
    map_
        Our column and yours, as in prompt=question. May be repeated.
    key
        The column with the key that rows call their prompt by. Short for `--map key=COLUMN`.
    prompts_from
        An earlier import whose prompts and completions the rows name.
    preview
        Show this many records of each kind as they would be imported, and import nothing.
    json
        Print JSON.
    """
    options = {"--as": as_, "--adapter": adapter, "--name": name, "--map": map_, "--key": key}
    if file.suffix.lower() in YAML:
        _refuse({**options, "--prompts-from": prompts_from}, f"{file.name}, which says it itself")
        job = tables_job(load_import(file))
    else:
        job = _job(file, as_, adapter, source_name(file, name), mapped(map_ or [], key), prompts_from)
    if preview:
        facts = opened(workspace).facts if job.prompts_from else None
        show_preview(previewed(facts, job), preview, facts, json)
        return
    target = opened(workspace)
    with target.shared():
        done = run(target.facts, job)
    _show_import(done, json)


def mapped(pairs: Sequence[str], key: str | None = None) -> dict[str, str]:
    """`ours=theirs` pairs, and the column of the key, as a mapping. Raises RecipeError."""
    mapping: dict[str, str] = {}
    for pair in [*pairs, *([f"key={key}"] if key else [])]:
        ours, equals, theirs = pair.partition("=")
        if not (ours and equals and theirs):
            raise RecipeError(f"--map got {pair!r}, expected OURS=THEIRS, as in `--map prompt=question`")
        if ours in mapping:
            raise RecipeError(f"--map names {ours!r} twice, expected once: remove one")
        mapping[ours] = theirs
    return mapping


def source_name(file: Path, name: str | None) -> str:
    """The name asked for, or that of the file. Raises RecipeError for one that is none."""
    found = stem(str(file)) if name is None else name
    if not re.fullmatch(NAME, found):
        raise RecipeError(
            f"the source's name is {found!r}, expected letters, digits, '.', '-' and '_': give one with --name"
        )
    return found


def _job(
    file: Path, kind: str | None, adapter: str | None, name: str, mapping: dict[str, str], prompts_from: str | None
) -> Job:
    if adapter is not None:
        _refuse({"--as": kind, "--map": mapping}, "--adapter, which knows the columns")
        table = TableConfig(path=str(file), adapter=adapter)
        return tables_job(ImportConfig(name=name, prompts_from=prompts_from, tables=(table,)))
    if kind is None:
        raise RecipeError(
            f"{file} got neither --as nor --adapter, expected one of them: what are its rows? "
            f"--as knows {', '.join(KINDS)}; --adapter knows {', '.join(sorted(ADAPTERS))}"
        )
    return file_job(file, kind, mapping, name, prompts_from)


def _refuse(options: dict[str, object], beside: str) -> None:
    for option, value in options.items():
        if value:
            raise RecipeError(f"{option} does not go with {beside}: leave it out")


def _show_import(done: Imported, json: bool) -> None:
    imported = done.imported
    if json:
        say_json(
            {
                "source": imported.source, "prompts_source": imported.prompts_source, "changed": done.changed,
                "fingerprint": imported.fingerprint, "new": dict(done.new),
                "outcomes": {what: dict(outcomes) for what, outcomes in imported.outcomes.items()},
            }
        )  # fmt: skip
        return
    about = "" if imported.source == imported.prompts_source else f", about the prompts of {imported.prompts_source}"
    say(f"{imported.source}{about}")
    for line in listed(imported.outcomes):
        say(line)
    new = ", ".join(counted(count, what.removesuffix("s")) for what, count in done.new.items() if count)
    say(f"new: {new or 'nothing'}" if done.changed else f"unchanged{f'; new: {new}' if new else ''}")
