"""Preference data that fits the model it will train.

    import prefkit
    version = prefkit.build("recipe.yaml")      # runs what is missing, returns name@vN
    version.ledger()                            # what became of every row, per stage

Names load when they are first used, so `import prefkit` is cheap and needs none of the heavy dependencies.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefkit.api import Version, build, open_version
    from prefkit.pipeline.recipe import Recipe
    from prefkit.store.workspace import Workspace

__version__ = "0.1.0"

__all__ = ["Recipe", "Version", "Workspace", "__version__", "build", "open_version"]

_HOME = {
    "Recipe": "prefkit.pipeline.recipe",
    "Workspace": "prefkit.store.workspace",
    "Version": "prefkit.api",
    "build": "prefkit.api",
    "open_version": "prefkit.api",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
