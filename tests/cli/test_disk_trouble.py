"""A disk that fails under a command: one line, exit 2, and what was acknowledged is kept."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from prefkit.cli import main
from prefkit.store.workspace import Workspace


def failing(number: int) -> Callable[[int], None]:
    def fsync(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    return fsync


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "read-only"), (errno.EACCES, "permission denied")],
)
def test_build_on_a_disk_that_fails_is_told_and_loses_nothing(
    number: int, words: str, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", failing(number))
        code = main(["build", "recipe.yaml", "--set", "sample.n=8"])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert (code, len(lines)) == (2, 1)
    assert words in lines[0]
    assert main(["verify"]) == 0
    assert main(["build", "recipe.yaml", "--set", "sample.n=8"]) == 0
    assert Workspace.open(project).versions.get("arithmetic").number == 2


def test_init_on_a_disk_that_fails_is_told(
    bare: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", failing(errno.EROFS))
        assert main(["init"]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert main(["init"]) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
def test_result_written_to_a_full_device_is_told_in_one_line(project: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "prefkit", "log"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: cannot use the output: No space left on device; free some space")
