"""`prefkit export`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from prefkit.cli.console import counted, say
from prefkit.cli.options import WorkspacePath, opened
from prefkit.errors import RecipeError, suggestion
from prefkit.export.folder import write_folder
from prefkit.export.formats import FORMATS, formatted
from prefkit.export.writers import WRITERS, write_splits
from prefkit.pipeline.exporting import export_source, version_candidates

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
        write_folder(export_source(version, version_candidates(version, target)), to)
        say(f"{version.label}: {counted(sum(version.splits.values()), 'row')} and all candidates in {to}")
        return
    splits = formatted(export_source(version), format_)
    write_splits(splits, to, as_)
    counts = ", ".join(f"{frame.height:,} {split}" for split, frame in splits.items())
    rows = counted(sum(frame.height for frame in splits.values()), "row")
    say(f"{version.label}: {rows} ({counts}) as {format_} {as_} in {to}")


def _require(container: str, name: str) -> None:
    for option, got, known in (("--as", container, [*WRITERS, HUB_FOLDER]), ("--format", name, list(FORMATS))):
        if got not in known:
            raise RecipeError(f"{option} got {got!r}, expected one of {', '.join(known)}{_close(got, known)}")


def _close(got: str, known: list[str]) -> str:
    near = suggestion(got, known)
    return near if "did you mean" in near else ""
