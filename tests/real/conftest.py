"""Every test here needs the data; each set is imported once, into a workspace of its own."""

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from prefkit.pipeline.imports.importing import import_tables
from prefkit.sources.import_file import load_import
from prefkit.store.workspace import Workspace
from tests.real.data import IMPORTS, VARIABLE, data_folder
from tests.real.sources import Source


@pytest.fixture(scope="session", autouse=True)
def data() -> Path:
    """The folder with the data; without it every test here is skipped."""
    folder = data_folder()
    if not (folder / "alpaca_eval").is_dir():
        pytest.skip(f"no real data in {folder}: name its folder with {VARIABLE}")
    return folder


@pytest.fixture(scope="session")
def imported(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Source]:
    """Imports a set by the name of its import file, once."""

    @cache
    def source(name: str) -> Source:
        folder = tmp_path_factory.mktemp(name)
        for path in data.iterdir():
            if path.is_dir():
                (folder / path.name).symlink_to(path)
        config = load_import(Path(shutil.copy(IMPORTS / f"{name}.yaml", folder)))
        done = import_tables(Workspace.create(folder).facts, config)
        return Source(name, folder, done.imported.outcomes)

    return source
