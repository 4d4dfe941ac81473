"""`prefkit export`."""

from pathlib import Path
from typing import Annotated, cast

import polars as pl
from cyclopts import Parameter

from prefkit.cli.accounts import accounts_of
from prefkit.cli.console import counted, say
from prefkit.cli.options import WorkspacePath, opened
from prefkit.errors import RecipeError, suggestion
from prefkit.export.folder import write_folder
from prefkit.export.formats import FORMATS, formatted
from prefkit.export.source import ExportSource, Kind
from prefkit.export.writers import WRITERS, write_splits
from prefkit.pipeline.importing import import_by_id
from prefkit.pipeline.rebuild import recorded
from prefkit.pipeline.stages import Stages
from prefkit.selection.aggregation import aggregated_score
from prefkit.selection.outcomes import ROW_OUTCOME, RowOutcome, Selection
from prefkit.store.versions import Version
from prefkit.store.workspace import Workspace

HUB_FOLDER = "hub-folder"


def export(
    label: str,
    /,
    *,
    to: Path,
    format_: Annotated[str, Parameter(name="--format")] = "trl",
    as_: Annotated[str, Parameter(name="--as")] = "parquet",
    workspace: WorkspacePath = None,
) -> None:
    """Write a version to a new folder that trainers read.

    Parameters
    ----------
    label
        A version (name@v2), a tag, or a name for its newest version.
    to
        The folder to make.
    format_
        What TRL trains on: trl, trl-plain, trl-reward, unpaired, prompt-only or sft.
    as_
        How it is stored: parquet, jsonl, datasets (for datasets.load_from_disk), or hub-folder (everything of a row,
        all candidates and a README, laid out as on the Hub, whatever the format).
    """
    target = opened(workspace)
    version = target.versions.get(label)
    _require(as_, format_)
    if as_ == HUB_FOLDER:
        write_folder(export_source(version, candidates_of(version, target)), to)
        say(f"{version.label}: {counted(sum(version.splits.values()), 'row')} and all candidates in {to}")
        return
    splits = formatted(export_source(version, None), format_)
    write_splits(splits, to, as_)
    counts = ", ".join(f"{frame.height:,} {split}" for split, frame in splits.items())
    rows = counted(sum(frame.height for frame in splits.values()), "row")
    say(f"{version.label}: {rows} ({counts}) as {format_} {as_} in {to}")


def export_source(version: Version, candidates: pl.DataFrame | None) -> ExportSource:
    """What the exporters need to know of a version."""
    return ExportSource(
        version.name,
        f"v{version.number}",
        cast(Kind, version.content["kind"]),
        {split: version.frame(split).drop("row_hash").collect() for split in version.splits},
        candidates,
        [
            (a["stage"], a["unit"], outcome, number)
            for a in accounts_of(version)
            for outcome, number in a["outcomes"].items()
        ],
        str(version.content["fingerprint"]),
        str(version.manifest["content_hash"]),
    )


def candidates_of(version: Version, workspace: Workspace) -> pl.DataFrame:
    """Every completion that could have been chosen, in the columns of a subset, from the facts of the version."""
    stages = Stages(recorded(version), workspace.facts, dict(version.pins), maker=None)
    import_id = bytes.fromhex(str(version.provenance["import_id"]))
    tasks = stages.prompts(import_by_id(workspace.facts, import_id, version.pins["imports"]))
    candidates = stages.completions(stages.sample(tasks))
    scores = stages.score(candidates, tasks)
    candidates = candidates.with_columns(aggregated_score(scores, stages.recipe.recipe.aggregate).alias("score"))
    everything = candidates.select(
        "prompt",
        "candidate",
        "score",
        label=pl.lit(None, pl.Boolean),
        weight=pl.lit(None, pl.Float64),
        outcome=pl.lit(RowOutcome.SELECTED.value, ROW_OUTCOME),
    )
    return stages.rows(Selection(tasks.select("prompt"), everything), candidates, scores, tasks)


def _require(container: str, name: str) -> None:
    for option, got, known in (("--as", container, [*WRITERS, HUB_FOLDER]), ("--format", name, list(FORMATS))):
        if got not in known:
            raise RecipeError(f"{option} got {got!r}, expected one of {', '.join(known)}{_close(got, known)}")


def _close(got: str, known: list[str]) -> str:
    near = suggestion(got, known)
    return near if "did you mean" in near else ""
