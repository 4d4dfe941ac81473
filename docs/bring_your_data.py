"""Runs the commands of docs/bring-your-data.md and writes what they print below them, so the page cannot say otherwise.

A block of commands names the folder of samples that they run in, as in ```` ```console ratings ````; blocks of one
folder share a workspace. A line that begins with a dollar sign is a command, and may go on after a backslash.
"""

import contextlib
import io
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

from prefkit.cli import main
from prefkit.sources.adapters import ADAPTERS
from prefkit.store.workspace import Workspace

TARGET = Path(__file__).parent / "bring-your-data.md"
SAMPLES = Path(__file__).parent / "bring_your_data"
WIDTH = "100"

_BLOCK = re.compile(r"^```console (?P<folder>\w+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_ADAPTERS = re.compile(r"(?<=<!-- adapters -->\n).*?(?=<!-- end -->)", re.DOTALL)


def refreshed(page: str) -> str:
    """The page with what its commands print now, and with the adapters there are now."""
    page = _ADAPTERS.sub(lambda _: _adapters(), page)
    with tempfile.TemporaryDirectory() as scratch, _narrow_terminal():
        samples = shutil.copytree(SAMPLES, Path(scratch) / "samples")
        for folder in samples.iterdir():
            Workspace.create(folder)
        return _BLOCK.sub(lambda block: _run_block(samples, block), page)


def printed(command: str) -> str:
    """What a command prints here: `cat`, `head -n`, or prefkit. Raises RuntimeError when it fails."""
    match shlex.split(command):
        case ["cat", file]:
            return Path(file).read_text()
        case ["head", "-n", count, file]:
            return "".join(Path(file).read_text().splitlines(keepends=True)[: int(count)])
        case ["prefkit", *arguments]:
            return _prefkit(arguments)
        case _:
            raise RuntimeError(f"{command!r} is no command of the page, expected cat, head or prefkit")


def _prefkit(arguments: list[str]) -> str:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    if code:
        raise RuntimeError(f"prefkit {shlex.join(arguments)} ended with {code}: {err.getvalue()}")
    return out.getvalue()


def _run_block(samples: Path, block: re.Match[str]) -> str:
    with contextlib.chdir(samples / block["folder"]):
        lines = [line for command in _commands(block["body"]) for line in (f"$ {command}", *_answer(command))]
    return "\n".join([f"```console {block['folder']}", *lines, "```"])


def _commands(body: str) -> Iterator[str]:
    """The commands of a block as they are written, over several lines where they are."""
    lines = iter(body.splitlines())
    for line in lines:
        if line.startswith("$ "):
            command = line.removeprefix("$ ")
            while command.endswith("\\"):
                command += "\n" + next(lines)
            yield command


def _answer(command: str) -> list[str]:
    return [line.rstrip() for line in printed(command.replace("\\\n", " ")).rstrip().splitlines()]


def _adapters() -> str:
    rows = [f"| `{name}` | {registered.about} |" for name, registered in sorted(ADAPTERS.items())]
    return "\n".join(["", "| adapter | shape |", "|---|---|", *rows, "", ""])


@contextlib.contextmanager
def _narrow_terminal() -> Generator[None]:
    """Commands find the width of the page and no workspace but that of the samples."""
    before = dict(os.environ)
    os.environ["COLUMNS"] = WIDTH
    os.environ.pop("PREFKIT_WORKSPACE", None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


if __name__ == "__main__":
    TARGET.write_text(refreshed(TARGET.read_text()))
    print(f"wrote {TARGET}")
