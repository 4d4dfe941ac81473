"""Results in the reader's pager, line by line as they are made."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console

from prefkit.cli.console import Screen, console


@contextmanager
def pager() -> Generator[Console]:
    """A console on $PAGER (`less` by default), or on stdout where that is no terminal or there is no pager.

    Leaving the pager ends the block quietly, and what was not yet made is never made.
    """
    command = shlex.split(os.environ.get("PAGER") or "less")
    if not sys.stdout.isatty() or shutil.which(command[0]) is None:
        yield console()
        return
    colours = Path(command[0]).name == "less"  # other pagers may write colours out as characters
    process = subprocess.Popen(
        [*command, "-R"] if colours else command,
        stdin=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={"LESS": "FRX"} | os.environ,
    )
    assert process.stdin is not None
    screen = Screen(
        file=process.stdin, force_terminal=colours, width=console().width, highlight=False, markup=False, emoji=False
    )
    try:
        with suppress(BrokenPipeError):
            yield screen
    finally:
        with suppress(BrokenPipeError):
            process.stdin.close()
        _wait(process)


def _wait(process: subprocess.Popen[str]) -> None:
    """An interruption is the pager's to handle as long as it has the terminal."""
    while process.returncode is None:
        with suppress(KeyboardInterrupt):
            process.wait()
