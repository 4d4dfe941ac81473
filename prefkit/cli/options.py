"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from prefkit.store.workspace import Workspace

WorkspacePath = Annotated[Path | None, Parameter(parse=False)]
"""Filled from the `--workspace` that stands before or after every command."""
AsJson = Annotated[bool, Parameter(name="--json")]
Rows = Annotated[int, Parameter(name=["-n", "--rows"], validator=Number(gte=1))]


def opened(place: Path | None) -> Workspace:
    """The workspace at `place`, else of PREFKIT_WORKSPACE, else the nearest one upwards."""
    return Workspace.find() if place is None else Workspace.open(place)
