"""Folded texts: what is hidden is counted, and what matters stays."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.cli.differences import differences
from prefkit.cli.folding import BUDGET, Fold, Kind, Piece, folded, folded_sides

PROSE = st.lists(st.text("abc \n", min_size=1, max_size=9), max_size=400).map(" ".join)


def hidden(pieces: list[Piece]) -> int:
    """How many characters the pieces say they hide."""
    notes = [re.match(r"… ([\d,]+) characters", piece.text) for piece in pieces if piece.kind is Kind.HIDDEN]
    return sum(int(note[1].replace(",", "")) for note in notes if note)


def visible(pieces: list[Piece]) -> list[str]:
    return [piece.text for piece in pieces if piece.kind is not Kind.HIDDEN]


@given(PROSE, st.integers(30, 200), st.integers(30, 200), st.sampled_from([None, "a", "bc", "cab"]))
def test_folded_text_is_its_beginning_its_end_and_a_count_of_the_rest(
    text: str, head: int, tail: int, find: str | None
) -> None:
    pieces = folded(text, Fold(head, tail, find))
    shown = visible(pieces)
    assert sum(map(len, shown)) + hidden(pieces) == len(text)
    if hidden(pieces):
        assert text.startswith(shown[0])
        assert text.endswith(shown[-1])
        assert len(shown) == 2 or find


@given(PROSE, st.sampled_from(["a", "bc", "CAB"]))
def test_folded_text_shows_every_place_that_holds_what_was_searched(text: str, find: str) -> None:
    pieces = folded(text, Fold(10, 10, find))
    found = [len(re.findall(re.escape(find), part, re.IGNORECASE)) for part in [text, *visible(pieces)]]
    assert found[0] == sum(found[1:])


@given(PROSE)
def test_folded_full_text_is_one_piece(text: str) -> None:
    assert folded(text, Fold(1, 1, full=True)) == ([Piece(text)] if text else [])


def test_folded_text_is_cut_between_words() -> None:
    pieces = folded("word " * 1_000, Fold(head=102, tail=102))
    assert all(re.fullmatch(r"\s?(word\s?)*", text) for text in visible(pieces))


def test_folded_sides_hide_the_same_stretches_and_keep_the_differences() -> None:
    left = "same " * 400 + "one " + "again " * 400
    sides = folded_sides(differences(left, left.replace("one", "two")), Fold())
    assert [[piece.text for piece in side if piece.kind is Kind.MARKED] for side in sides] == [["one"], ["two"]]
    notes = [[piece.text for piece in side if piece.kind is Kind.HIDDEN] for side in sides]
    assert notes[0] == notes[1]
    assert all("characters the same" in note for note in notes[0])
    assert len(notes[0]) == 2


def test_folded_sides_count_what_comes_after_enough_was_shown() -> None:
    left = " ".join(f"number {i} is good" for i in range(2_000))
    right = left.replace("5 is good", "5 is bad")
    left_side, right_side = folded_sides(differences(left, right), Fold())
    shown = sum(piece.kind is Kind.MARKED for piece in left_side)
    assert shown > 0
    assert f"with {200 - shown} more differences" in left_side[-2].text
    assert sum(map(len, visible(left_side))) < 2 * BUDGET
    assert right.endswith(visible(right_side)[-1])


@pytest.mark.parametrize("side", [0, 1])
@given(PROSE, PROSE)
def test_folded_sides_in_full_are_the_texts(side: int, left: str, right: str) -> None:
    pieces = folded_sides(differences(left, right), Fold(full=True))[side]
    assert "".join(piece.text for piece in pieces) == (left, right)[side]
