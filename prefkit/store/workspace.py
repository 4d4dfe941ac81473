"""The workspace: one `.prefkit` folder that holds facts, versions and runs.

It is found upwards from the working folder like `.git`. Processes may share it: whoever reads or builds holds the
workspace lock shared, gc holds it alone, and one name is built by one process at a time.
"""

import json
import os
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from prefkit.errors import MissingExtraError, WorkspaceError
from prefkit.store.files import disk_trouble, lock, write_durably

if TYPE_CHECKING:
    from prefkit.store.lance_facts import LanceFacts
    from prefkit.store.versions import Versions

FOLDER = ".prefkit"
FORMAT = 1
ENVIRONMENT = "PREFKIT_WORKSPACE"


@dataclass(frozen=True)
class Workspace:
    """A workspace at `root`, the `.prefkit` folder itself."""

    root: Path

    @classmethod
    def create(cls, parent: Path) -> "Workspace":
        """Makes `parent/.prefkit`. Raises WorkspaceError when there is one."""
        root = parent.resolve() / FOLDER
        if (root / "workspace.json").exists():
            raise WorkspaceError(f"{root} is a workspace already: use it as it is, or choose another folder")
        with disk_trouble(root):
            for name in ("facts", "versions", "runs", "tmp"):
                (root / name).mkdir(parents=True, exist_ok=True)
        write_durably(root / "workspace.json", json.dumps({"format": FORMAT, "id": uuid.uuid4().hex}).encode())
        return cls(root)

    @classmethod
    def open(cls, place: Path) -> "Workspace":
        """The workspace at `place`, which is a `.prefkit` folder or holds one."""
        root = place.resolve()
        root = root if (root / "workspace.json").exists() else root / FOLDER
        try:
            found = json.loads((root / "workspace.json").read_bytes())["format"]
        except (FileNotFoundError, NotADirectoryError):
            raise WorkspaceError(
                f"{place} holds no workspace: run `prefkit init` there, or name another with --workspace"
            ) from None
        except (ValueError, KeyError, TypeError):
            raise WorkspaceError(
                f"{root / 'workspace.json'} is no JSON with a `format`: restore it from a copy"
            ) from None
        if found != FORMAT:
            raise WorkspaceError(
                f"workspace {root} has format {found}, this prefkit reads format {FORMAT}: upgrade prefkit"
            )
        return cls(root)

    @classmethod
    def find(cls, start: Path | None = None) -> "Workspace":
        """The workspace named by PREFKIT_WORKSPACE, else the nearest one from `start` (the working folder) upwards."""
        if named := os.environ.get(ENVIRONMENT):
            return cls.open(Path(named))
        start = (start or Path.cwd()).resolve()
        for folder in (start, *start.parents):
            if (folder / FOLDER / "workspace.json").exists():
                return cls.open(folder)
        raise WorkspaceError(
            f"no workspace in {start} or above it: run `prefkit init` first, or name one with --workspace"
        )

    @cached_property
    def facts(self) -> "LanceFacts":
        """The fact tables. Raises MissingExtraError without Lance: versions, runs and recordings need only files."""
        try:
            from prefkit.store.lance_facts import LanceFacts
        except ModuleNotFoundError as error:
            if error.name != "lance":
                raise
            raise MissingExtraError(
                f"the fact tables of {self.root} need lance, which is not installed: pip install pylance, or work with "
                "them where it is"
            ) from None
        return LanceFacts(self.root / "facts", self.root / "quarantine")

    @property
    def has_facts(self) -> bool:
        """Whether anything was ever put into the fact tables."""
        return any((self.root / "facts").glob("*"))

    @cached_property
    def versions(self) -> "Versions":
        """The versions and tags."""
        from prefkit.store.versions import Versions

        return Versions(self.root)

    @property
    def policy_cache(self) -> Path:
        """Where digests of model files are remembered."""
        return self.root / "tmp" / "policies.json"

    def batches(self, name: str) -> Path:
        """Where builds of a name remember the batches they submitted: one build at a time, as `building` sees to."""
        return self.root / "batches" / name

    @contextmanager
    def shared(self) -> Generator[None]:
        """Keeps gc away while the block runs."""
        with lock(
            self._locks / "workspace",
            shared=True,
            busy=f"gc is at work in {self.root} ({{holder}}): try again when it is done",
        ):
            yield

    @contextmanager
    def alone(self) -> Generator[None]:
        """Keeps everybody else away while the block runs."""
        busy = f"another process is using {self.root}: try again when it is done"
        with lock(self._locks / "workspace", shared=False, busy=busy):
            yield

    @contextmanager
    def building(self, name: str) -> Generator[None]:
        """Keeps other builds of one name away while the block runs."""
        busy = f"{name} is being built by {{holder}}: wait for it, or give this recipe another name"
        with self.shared(), lock(self._locks / f"build-{name}", shared=False, busy=busy):
            yield

    @property
    def _locks(self) -> Path:
        return self.root / "tmp" / "locks"
