"""How a build is told while it runs, on stderr: bars on a terminal, a log line every few seconds elsewhere."""

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from prefkit.cli.console import count, note
from prefkit.pipeline.progress import Progress as BuildProgress

SECONDS = 5.0


class Bars:
    """A bar for each stage that has something to do."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._current: TaskID | None = None

    def stage(self, name: str, planned: int, missing: int) -> None:
        """See Progress."""
        self._current = self._bars.add_task(name, total=missing) if missing else None

    def advance(self, keys: int) -> None:
        """See Progress."""
        if self._current is not None:
            self._bars.advance(self._current, keys)


class Lines:
    """A line when a stage begins, and one every few seconds while it goes on."""

    def __init__(self, write: Callable[[str], None] = note, clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._name, self._missing, self._done, self._told = "", 0, 0, 0.0

    def stage(self, name: str, planned: int, missing: int) -> None:
        """See Progress."""
        self._name, self._missing, self._done, self._told = name, missing, 0, self._clock()
        self._write(f"{name}: {count(planned)} planned, {count(missing)} to do")

    def advance(self, keys: int) -> None:
        """See Progress."""
        self._done += keys
        if self._clock() - self._told >= SECONDS:
            self._told = self._clock()
            self._write(f"{self._name}: {count(self._done)} of {count(self._missing)}")


@contextmanager
def reporter() -> Generator[BuildProgress]:
    """What suits the process's stderr."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        yield Bars(bars)
