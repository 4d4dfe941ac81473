"""One project is built once; every test works in a copy of it."""

import shutil
from pathlib import Path

import pytest

from tests.cli.projects import built_project, write_project


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_project(tmp_path_factory.mktemp("built"))


@pytest.fixture
def project(built_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the built project, which is also the working folder."""
    folder = tmp_path / "project"
    shutil.copytree(built_once, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without a workspace, which is also the working folder."""
    folder = write_project(tmp_path / "bare")
    monkeypatch.chdir(folder)
    return folder
