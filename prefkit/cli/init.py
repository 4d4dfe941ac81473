"""`prefkit init`."""

import os
from pathlib import Path

from prefkit.cli.console import say
from prefkit.cli.options import WorkspacePath
from prefkit.errors import WorkspaceError
from prefkit.store.workspace import ENVIRONMENT, FOLDER, Workspace


def init(folder: Path | None = None, /, *, workspace: WorkspacePath = None) -> None:
    """Make a workspace: a folder `.prefkit` that holds facts, versions and runs.

    Parameters
    ----------
    folder
        Where to make it. By default where --workspace or PREFKIT_WORKSPACE say, or here.
    """
    place = folder or workspace or Path(os.environ.get(ENVIRONMENT) or ".")
    parent = place.parent if place.name == FOLDER else place
    for path in (parent, parent / FOLDER):
        if path.exists() and not path.is_dir():
            raise WorkspaceError(f"{path} is a file, expected a folder: choose another place for the workspace")
    say(f"made workspace {Workspace.create(parent).root}")
