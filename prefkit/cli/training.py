"""What the commands of trainings share. The trainers are reached by name: nothing of them is loaded before."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, cast

from prefkit.errors import MissingExtraError
from prefkit.pipeline.training.running import Ended, RunStart
from prefkit.store.workspace import Workspace
from prefkit.stream.replayed import Shuffle

TRAINERS = "prefkit_trainers.running"
Tell = Callable[[str], None]


class Trainers(Protocol):
    """What TRAINERS leads to."""

    def train(self, start: RunStart, workspace: Workspace, tell: Tell) -> Ended:
        """Starts a run and trains to its end."""
        ...

    def resume(self, name: str, workspace: Workspace, tell: Tell) -> Ended:
        """Goes on with a run that was stopped."""
        ...

    def replay(self, name: str, workspace: Workspace, shuffle: Shuffle | None, folder: Path, tell: Tell) -> Ended:
        """Trains again on what a run recorded."""
        ...

    def reproducible(self) -> bool:
        """Whether the same run gives the same weights here."""
        ...


def trainers() -> Trainers:
    """Raises MissingExtraError without the packages that training needs."""
    try:
        return cast(Trainers, importlib.import_module(TRAINERS))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("prefkit"):
            raise
        raise MissingExtraError(
            f"training needs {error.name}, which is not installed: pip install 'prefkit[train]'"
        ) from None
