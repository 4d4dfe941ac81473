"""`prefkit doctor`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from prefkit.cli.console import counted, harmless, say, say_json
from prefkit.cli.options import AsJson, WorkspacePath, opened
from prefkit.errors import WorkspaceError
from prefkit.pipeline.doctor.checkup import Checkup, checkup
from prefkit.pipeline.doctor.findings import Severity
from prefkit.pipeline.recipe_file import load_recipe
from prefkit.store.workspace import Workspace


def doctor(
    recipe: Path,
    /,
    *,
    set_: Annotated[list[str] | None, Parameter(name="--set")] = None,
    json: AsJson = False,
    workspace: WorkspacePath = None,
) -> int:
    """Tell what is wrong with a recipe and its data before anything runs. Writes nothing; exits 1 on errors.

    Parameters
    ----------
    recipe
        A YAML file (see docs/recipe.md).
    set_
        Change a value of the recipe, as in sample.n=12 or score.0.repeats=2. May be repeated.
    json
        Print JSON.
    """
    found = checkup(load_recipe(recipe, set_ or ()), recipe.resolve().parent, _found_workspace(workspace))
    if json:
        say_json(
            {
                "prompts": found.prompts, "completions": found.completions, "estimated": found.estimated,
                "counts": {str(severity): found.count(severity) for severity in Severity},
                "findings": [finding.to_json() for finding in found.findings],
            }
        )  # fmt: skip
    else:
        for finding in found.findings:
            say(harmless(str(finding)))
        say(_summary(found))
    return 1 if found.count(Severity.ERROR) else 0


def _found_workspace(place: Path | None) -> Workspace | None:
    """The workspace, or None where there is none yet and none was named."""
    if place is not None:
        return opened(place)
    try:
        return opened(None)
    except WorkspaceError:
        return None


def _summary(found: Checkup) -> str:
    looked = f"checked {counted(found.prompts, 'prompt')} and {counted(found.completions, 'completion')}"
    how = f" (lengths estimated: {found.estimated})" if found.estimated else ""
    told = ", ".join(counted(found.count(s), str(s)) for s in Severity if found.count(s))
    return f"{looked}{how}: {told or 'nothing found'}"
