"""Long texts folded to what is worth reading: how they begin and end, where two differ, and what was searched for.

A text becomes pieces. Those that are `hidden` say in words what they stand for; without them the text is whole.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

from prefkit.cli.differences import Part

BUDGET = 1_600
"""Characters of a pair's side after which only its end is shown."""
_LEAST = 80
"""Fewer characters than this are shown rather than hidden."""
_AROUND = 60
_WORD_END = 20
"""How far a fold moves to fall between two words."""


class Kind(Enum):
    """How a piece is to be read."""

    PLAIN = "plain"
    MARKED = "marked"
    """Only this side says it."""
    HIDDEN = "hidden"


class Piece(NamedTuple):
    """A stretch of text in one manner."""

    text: str
    kind: Kind = Kind.PLAIN


@dataclass(frozen=True, slots=True)
class Fold:
    """How much of a text stays: characters at its beginning and end, and around every place that holds `find`."""

    head: int = 800
    tail: int = 300
    find: str | None = None
    full: bool = False
    """Hide nothing."""


def folded(text: str, fold: Fold, kind: Kind = Kind.PLAIN, note: str = "") -> list[Piece]:
    """The text in pieces; `note` follows the count of characters where some are hidden."""
    pieces: list[Piece] = []
    at = 0
    for start, end in [*_kept(text, fold), (len(text), len(text))]:
        if start - at < _LEAST:
            start = at
        if start > at:
            pieces.append(Piece(f"… {start - at:,} characters{note} …", Kind.HIDDEN))
        if end > start:
            pieces.append(Piece(text[start:end], kind))
        at = max(at, end)
    return pieces


def folded_sides(parts: Sequence[Part], fold: Fold) -> tuple[list[Piece], list[Piece]]:
    """Both sides of the parts of a pair, what differs marked. The same stretches of both are hidden."""
    sides: tuple[list[Piece], list[Piece]] = ([], [])
    spent = 0
    for index, part in enumerate(parts):
        if spent > BUDGET and not fold.full:
            for side, pieces in zip(sides, _rest(parts[index:], fold), strict=True):
                side += pieces
            break
        shown = _folded_part(part, fold, first=index == 0, last=index == len(parts) - 1)
        for side, pieces in zip(sides, shown, strict=True):
            side += pieces
        spent += max(sum(len(piece.text) for piece in pieces) for pieces in shown)
    return sides


def _folded_part(part: Part, fold: Fold, *, first: bool, last: bool) -> tuple[list[Piece], list[Piece]]:
    if part.same:
        # A fold right at the beginning or end of a text still shows how it begins or ends.
        around = replace(fold, head=_AROUND * (1 + first), tail=_AROUND * (1 + last))
        pieces = folded(part.left, around, note=" the same")
        return pieces, pieces
    return folded(part.left, fold, Kind.MARKED), folded(part.right, fold, Kind.MARKED)


def _rest(parts: Sequence[Part], fold: Fold) -> Iterator[list[Piece]]:
    """The end of each side, when enough of it was shown."""
    note = f" with {sum(not part.same for part in parts):,} more differences"
    for text in ("".join(part.left for part in parts), "".join(part.right for part in parts)):
        yield folded(text, replace(fold, head=0, tail=2 * _AROUND), note=note)


def _kept(text: str, fold: Fold) -> list[tuple[int, int]]:
    """The stretches of the text that stay, in order and apart by `_LEAST` at least."""
    if fold.full or len(text) <= fold.head + fold.tail + _LEAST:
        return [(0, len(text))]
    found = re.finditer(re.escape(fold.find), text, re.IGNORECASE) if fold.find else ()
    around = [(match.start() - _AROUND, match.end() + _AROUND) for match in found]
    kept: list[tuple[int, int]] = []
    for start, end in sorted([(0, fold.head), (len(text) - fold.tail, len(text)), *around]):
        start, end = _after_space(text, max(start, 0)), _before_space(text, min(end, len(text)))
        if kept and start - kept[-1][1] < _LEAST:
            kept[-1] = (kept[-1][0], max(kept[-1][1], end))
        else:
            kept.append((start, end))
    return kept


def _after_space(text: str, place: int) -> int:
    space = re.compile(r"\s").search(text, place, place + _WORD_END) if place else None
    return space.end() if space else place


def _before_space(text: str, place: int) -> int:
    nearby = text[max(place - _WORD_END, 0) : place]
    word = re.search(r"\s\S*$", nearby) if place < len(text) else None
    return place - len(nearby) + word.start() if word else place
