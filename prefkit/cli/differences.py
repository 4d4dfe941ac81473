"""What two texts have in common and what only one of them says, word by word.

Words that both texts hold once are anchors: the longest run of them in the same order on both sides is taken as common
(patience diff, Bram Cohen), and the stretches between anchors are looked at again. A stretch without anchors is
compared word by word when it is short, else it counts as different, so the time grows with the length of the texts and
not with its square. Nothing is lost: the left texts of the parts, joined, are the left text, and likewise right.
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import pairwise
from typing import NamedTuple

# Scripts written without spaces are compared character by character, everything else by words, numbers and signs.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_SIGNS = "!-/:-@\\[-^`{-~\u2010-\u205e\u3000-\u303f\uff01-\uff0f\uff1a-\uff20"
_RUN = f"[^\\s{_UNSPACED}{_SIGNS}]+"
_WORD = re.compile(f"{_RUN}(?:['\u2019]{_RUN}|(?<=\\d)[.,](?=\\d){_RUN})*|[{_UNSPACED}{_SIGNS}]")

_DEPTH = 8
_COMPARED = 16_384
"""Pairs of words that a stretch without anchors may have to be compared word by word."""
_WEAK = 12
"""Fewer common characters than this between two longer differences read as chance."""


class Part(NamedTuple):
    """A stretch of both texts, the same or different."""

    left: str
    right: str

    @property
    def same(self) -> bool:
        """Whether both sides say this."""
        return self.left == self.right


def differences(left: str, right: str) -> list[Part]:
    """The texts in parts, by turns the same and different; one part when the texts are equal, none when both are empty.

    White space takes part: texts that differ in nothing else have parts of white space that differ.
    """
    parts: list[Part] = []
    a = b = 0
    for common in [*_common(left, right), _Common(len(left), len(right), 0)]:
        for part in (*_stretch(left[a : common.left], right[b : common.right]), _same(left, common)):
            _append(parts, part)
        a, b = common.left + common.length, common.right + common.length
    return parts


def common_share(parts: Sequence[Part]) -> float:
    """Which share of the characters of both texts is common, white space aside; 1.0 for two texts without any."""
    common = sum(2 * _ink(part.left) for part in parts if part.same)
    total = sum(_ink(part.left) + _ink(part.right) for part in parts)
    return common / total if total else 1.0


class _Common(NamedTuple):
    """Where both texts hold the same characters (or, for lists of words, the same words)."""

    left: int
    right: int
    length: int


def _same(left: str, common: _Common) -> Part:
    text = left[common.left : common.left + common.length]
    return Part(text, text)


def _ink(text: str) -> int:
    return len("".join(text.split()))


def _stretch(left: str, right: str) -> tuple[Part, Part, Part]:
    """What lies between two common words: the white space both begin with, what differs, and the one both end with."""
    head = _leading_space(left)[: _run(_leading_space(left), _leading_space(right))]
    left, right = left[len(head) :], right[len(head) :]
    tail = _trailing_space(left)
    tail = tail[len(tail) - _run(tail[::-1], _trailing_space(right)[::-1]) :]
    end = -len(tail) or None
    return Part(head, head), Part(left[:end], right[:end]), Part(tail, tail)


def _leading_space(text: str) -> str:
    return text[: len(text) - len(text.lstrip())]


def _trailing_space(text: str) -> str:
    return text[len(text.rstrip()) :]


def _append(parts: list[Part], part: Part) -> None:
    """Adds a part, joined with the last one when both are the same or both differ."""
    if not (part.left or part.right):
        return
    if parts and parts[-1].same == part.same:
        part = _joined(parts.pop(), part)
    elif not part.same and len(parts) > 1 and _is_chance(parts[-2], parts[-1], part):
        common, before = parts.pop(), parts.pop()
        part = _joined(before, common, part)
    parts.append(part)


def _joined(*parts: Part) -> Part:
    return Part("".join(p.left for p in parts), "".join(p.right for p in parts))


def _is_chance(before: Part, common: Part, after: Part) -> bool:
    """Whether a few common characters between two differences are no more than words that every text has."""
    return _ink(common.left) < min(_WEAK, _size(before), _size(after))


def _size(part: Part) -> int:
    return max(_ink(part.left), _ink(part.right))


def _common(left: str, right: str) -> Iterator[_Common]:
    """The common stretches of characters, in order."""
    spans = [[match.span() for match in _WORD.finditer(text)] for text in (left, right)]
    words = [[text[a:b] for a, b in own] for text, own in zip((left, right), spans, strict=True)]
    for block in _common_words(words[0], words[1], 0, 0, _DEPTH):
        ours, theirs = (
            own[start : start + block.length] for own, start in zip(spans, (block.left, block.right), strict=True)
        )
        (a, b), (end_a, end_b) = (ours[0][0], theirs[0][0]), (ours[-1][1], theirs[-1][1])
        if left[a:end_a] == right[b:end_b]:
            yield _Common(a, b, end_a - a)
        else:  # the words agree but not the white space between them
            yield from (_Common(i, k, j - i) for (i, j), (k, _) in zip(ours, theirs, strict=True))


def _common_words(left: Sequence[str], right: Sequence[str], at: int, against: int, depth: int) -> Iterator[_Common]:
    """The common runs of two lists of words that begin at the given places of their texts, in order."""
    head = _run(left, right)
    tail = _run(left[head:][::-1], right[head:][::-1])
    ours, theirs = left[head : len(left) - tail], right[head : len(right) - tail]
    if head:
        yield _Common(at, against, head)
    if ours and theirs:
        yield from _between(ours, theirs, at + head, against + head, depth)
    if tail:
        yield _Common(at + len(left) - tail, against + len(right) - tail, tail)


def _run(left: Sequence[str], right: Sequence[str]) -> int:
    """How many words, or characters, both begin with."""
    return next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))


def _between(left: Sequence[str], right: Sequence[str], at: int, against: int, depth: int) -> Iterator[_Common]:
    anchors = _anchors(left, right) if depth else []
    if anchors:
        bounds = [(0, 0), *anchors, (len(left), len(right))]
        for (a, b), (end_a, end_b) in pairwise(bounds):
            yield from _common_words(left[a:end_a], right[b:end_b], at + a, against + b, depth - 1)
    elif len(left) * len(right) <= _COMPARED:
        for a, b, length in SequenceMatcher(None, left, right, autojunk=False).get_matching_blocks():
            if length:
                yield _Common(at + a, against + b, length)


def _anchors(left: Sequence[str], right: Sequence[str]) -> list[tuple[int, int]]:
    """Places of words that both sides hold exactly once: the longest run that is in order on both."""
    once_right = {word: i for i, word in enumerate(right)}
    counts, counts_right = Counter(left), Counter(right)
    shared = [(i, once_right[w]) for i, w in enumerate(left) if counts[w] == counts_right[w] == 1]
    return _longest_rising(shared)


def _longest_rising(places: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest subsequence whose second numbers rise, by patience sorting."""
    tops: list[int] = []
    ends: list[int] = []  # for each length, which place ends the run with the smallest last number
    before: list[int] = []
    for index, (_, number) in enumerate(places):
        pile = bisect_left(tops, number)
        before.append(ends[pile - 1] if pile else -1)
        tops[pile : pile + 1] = [number]
        ends[pile : pile + 1] = [index]
    found: list[tuple[int, int]] = []
    index = ends[-1] if ends else -1
    while index >= 0:
        found.append(places[index])
        index = before[index]
    return found[::-1]
