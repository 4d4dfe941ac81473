"""What a reply claims: every number or verdict that stands in it in an explicit form, and nothing that must be guessed.

Two kinds of form count: JSON objects, alone or within text, and the written forms that judges are commonly asked for,
such as `[[7]]`, `[RESULT] 4`, `Score: 4/5` and `[[A]]`. Whoever reads the claims decides whether they agree.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias, cast

Object: TypeAlias = Mapping[str, object]

_SPACE = r"[ \t]*"
_MARKUP = r"[*_ \t]*"
_NUMBER = rf"(?P<number>-?\d{{1,4}}(?:\.\d{{1,4}})?)(?:{_SPACE}\(?{_SPACE}(?:/|out of){_SPACE}(?P<top>\d{{1,4}}))?"
# Neither a longer number, nor a range, nor a share of something.
_ENDED = rf"(?![\w%]|[.,]\d|{_SPACE}/|{_SPACE}(?:[-\u2013\u2014]|to|or){_SPACE}\d|{_SPACE}\(?{_SPACE}out of)"
_NUMBER_FORMS = (
    rf"\[\[\s*{_NUMBER}\s*\]\]",
    rf"\[RESULT\]{_MARKUP}:?{_MARKUP}\(?{_NUMBER}{_ENDED}",
)
_LABELS = ("score", "rating", "grade")
_VERDICT_LABELS = ("verdict", "winner", "preference")
_RATIONALES = ("rationale", "reason", "feedback")
LARGEST = 1e6
"""A number beyond it is on no scale."""
_VERDICT = r"(?P<verdict>A>>B|A>B|A=B|B>A|B>>A|B=A|B<A|B<<A|A<B|A<<B|[ABC]|[Tt]ie|TIE)"
_VERDICT_FORMS = (
    rf"\[\[\s*{_VERDICT}\s*\]\]",
    rf"(?<!\w)(?i:{'|'.join(_VERDICT_LABELS)}){_MARKUP}:{_MARKUP}{_VERDICT}(?=\W*$|[*_]*[.,;)\n])",
)


@dataclass(frozen=True, slots=True)
class Claim:
    """One statement of a reply: a number, or a verdict as it was written; text where a number should be is as it is."""

    value: float | str
    top: int | None = None
    """The end of the scale, where the reply names it, as in `4/5`."""
    rationale: str | None = None


def answer(text: str) -> str:
    """The reply without what a reasoning model thought before it."""
    return text if _whole_object(text) else text.rpartition("</think>")[2]


def number_claims(text: str, aspect: str, *, alone: bool) -> list[Claim]:
    """Numbers given for an aspect. When it was asked about `alone`, those that name no aspect are meant for it."""
    objects, prose = json_objects(text)
    claims = [claim for o in objects for claim in _numbers_in(o, aspect, alone)]
    generic = "|".join(_LABELS)
    named = rf"{aspect.replace('_', '[ _-]')}(?: (?:{generic}))?"
    label = f"{generic}|{named}" if alone else named
    forms = [rf"(?<!\w)(?:{label}){_MARKUP}[:=]{_MARKUP}{_NUMBER}{_ENDED}", *(_NUMBER_FORMS if alone else ())]
    return claims + [_written(m) for form in forms for m in re.finditer(form, prose, re.IGNORECASE)]


def verdict_claims(text: str) -> list[Claim]:
    """Verdicts on a pair, as written but for case and white space."""
    objects, prose = json_objects(text)
    claims = [claim for o in objects for claim in _verdicts_in(o)]
    found = (m for form in _VERDICT_FORMS for m in re.finditer(form, prose, re.MULTILINE))
    return claims + [Claim(_plain(m["verdict"])) for m in found]


def json_objects(text: str) -> tuple[list[Object], str]:
    """The outermost JSON objects of a text, in order, and the text around them. Objects with a key twice are prose."""
    whole = _whole_object(text)
    if whole is not None:
        return [whole], ""
    objects: list[Object] = []
    around: list[str] = []
    start = 0
    for opening in re.finditer(r"\{", text):
        if opening.start() < start:
            continue
        try:
            found, end = _DECODER.raw_decode(text, opening.start())
        except ValueError:
            continue
        except RecursionError:  # nobody nests a verdict that deep, and every brace within would be tried in vain
            break
        objects.append(found)
        around.append(text[start : opening.start()])
        start = end
    return objects, "\n".join([*around, text[start:]])


def _whole_object(text: str) -> Object | None:
    try:
        found = _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None
    return cast(Object, found) if isinstance(found, dict) else None


def _once_each(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key comes twice")
    return dict(pairs)


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number")


_DECODER = json.JSONDecoder(object_pairs_hook=_once_each, parse_constant=_no_number)


def _numbers_in(found: Object, aspect: str, alone: bool) -> Iterator[Claim]:
    for key, value in found.items():
        folded = key.lower().replace(" ", "_")
        if folded == aspect.lower() and isinstance(value, dict):
            yield from _numbers_in(cast(Object, value), "", alone=True)
        elif folded == aspect.lower() or (alone and folded in _LABELS):
            yield _number(value, _rationale(found))


def _number(value: object, rationale: str | None) -> Claim:
    if isinstance(value, str) and (match := re.fullmatch(rf"\s*{_NUMBER}\s*", value)):
        return _written(match, rationale)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Claim(float(value) if abs(value) <= LARGEST else math.copysign(math.inf, value), None, rationale)
    return Claim(str(value), None, rationale)


def _written(match: re.Match[str], rationale: str | None = None) -> Claim:
    return Claim(float(match["number"]), int(match["top"]) if match["top"] else None, rationale)


def _verdicts_in(found: Object) -> Iterator[Claim]:
    for key, value in found.items():
        if key.lower() in _VERDICT_LABELS:
            yield Claim(_plain(str(value)), None, _rationale(found))


def _rationale(found: Object) -> str | None:
    said = next((value for key, value in found.items() if key.lower() in _RATIONALES), None)
    return said if isinstance(said, str) else None


def _plain(verdict: str) -> str:
    return "".join(verdict.split()).upper().removeprefix("[[").removesuffix("]]")
