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
    try:
        made = Workspace.create(parent)
    except (FileExistsError, NotADirectoryError, FileNotFoundError) as error:
        raise WorkspaceError(
            f"{error.filename} cannot be made a folder ({error.strerror}): choose another place for the workspace"
        ) from None
    say(f"made workspace {made.root}")
