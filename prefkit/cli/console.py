"""What commands write to: results to stdout, notes to stderr. Model text is data and never controls the terminal."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from prefkit.identity import Json

PLAIN_SPACE = "\n\t\u00a0\u202f\u3000"


def say(line: str = "") -> None:
    """Writes a line of the result."""
    sys.stdout.write(line + "\n")


def note(line: str) -> None:
    """Writes a line beside the result."""
    sys.stderr.write(line + "\n")


def say_json(value: Json) -> None:
    """Writes one JSON document as the result."""
    say(json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False))


class Screen(Console):
    """A console whose reader may leave: `main` deals with a broken pipe."""

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


def console() -> Console:
    """A console on stdout that takes text as it is."""
    return Screen(file=sys.stdout, highlight=False, markup=False, emoji=False)


def say_all(parts: Iterable[RenderableType]) -> None:
    """Writes the parts, one below the other."""
    screen = console()
    for part in parts:
        screen.print(part)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> Table:
    """A table; the columns of `right` are aligned to the right, and only the last one is wrapped."""
    drawn = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        drawn.add_column(
            column, justify="right" if column in right else "left", overflow="fold", no_wrap=column != columns[-1]
        )
    for row in rows:
        drawn.add_row(*(Text(harmless(count(cell) if isinstance(cell, int) else str(cell))) for cell in row))
    return drawn


def harmless(text: str) -> str:
    """The text with characters that would control a terminal, or turn its direction, written out."""
    return "".join(c if c.isprintable() or c in PLAIN_SPACE else _written_out(c) for c in text)


def _written_out(character: str) -> str:
    return f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}"


def count(number: int) -> str:
    """A whole number with separators."""
    return f"{number:,}"


def number(value: float | None) -> str:
    """A score: as short as it can be written, `-` when there is none."""
    return "-" if value is None else f"{value:.6g}"


def counted(number: int, noun: str) -> str:
    """`1 pair`, `2 pairs`."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"
