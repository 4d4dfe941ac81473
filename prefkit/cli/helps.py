"""How help looks: plain lines in two columns, without boxes."""

import textwrap
from io import StringIO
from typing import TYPE_CHECKING

from cyclopts.help import PlainFormatter

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

WIDTH = 80
COLUMN = 24
"""Where descriptions begin."""


class TwoColumns(PlainFormatter):
    """Names on the left, what they mean on the right, wrapped to 80 columns."""

    def __call__(self, console: "Console", options: "ConsoleOptions", panel: "HelpPanel") -> None:
        """Writes a panel: its title and a line or more for each entry."""
        if not panel.entries:
            return
        lines = [f"{_plain(panel.title)}:", *(line for entry in panel.entries for line in _entry(entry)), ""]
        for line in lines:
            console.print(line, highlight=False, markup=False, soft_wrap=True)


def _entry(entry: "HelpEntry") -> list[str]:
    names = "  " + ", ".join(entry.display_labels_with_metavar)
    text = _plain(entry.description) + _metadata(entry)
    wrapped = textwrap.wrap(text, WIDTH - COLUMN, break_on_hyphens=False, break_long_words=False) or [""]
    if len(names) < COLUMN - 1:
        return [(names.ljust(COLUMN) + wrapped[0]).rstrip(), *(" " * COLUMN + line for line in wrapped[1:])]
    return [names, *(" " * COLUMN + line for line in wrapped if line)]


def _metadata(entry: "HelpEntry") -> str:
    known = [] if entry.default in (None, "False") else [f"default: {entry.default}"]
    known += ["required"] if entry.required else []
    return f" [{', '.join(known)}]" if known else ""


def _plain(renderable: object) -> str:
    from rich.console import Console

    console = Console(file=StringIO(), width=10_000, no_color=True, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        console.print("" if renderable is None else renderable, end="")
    return " ".join(captured.get().split())
