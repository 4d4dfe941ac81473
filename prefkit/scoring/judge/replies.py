"""From a judge's reply to a level or a preference, or to the reason why it holds none. Never a guess.

    refused by the endpoint, cut off, empty -> claims of the reply -> exactly one, and on the scale

A reply that claims two different things claims nothing. One that claims nothing and begins as refusals do is a refusal.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from prefkit.scoring.judge.asking import VERDICTS
from prefkit.scoring.judge.calls import Reply
from prefkit.scoring.judge.claims import Claim, answer, number_claims, verdict_claims
from prefkit.scoring.judge.rubric import Aspect
from prefkit.scoring.protocol import ScoreFailureKind

CUT_OFF_REASON = "length"
FILTERED_REASON = "content_filter"
LONGEST_SHOWN = 40
_TURNED = {"B<<A": 1.0, "B<A": 0.75, "B=A": 0.5, "A<B": 0.25, "A<<B": 0.0}
_UNGRADED = {"A": 1.0, "C": 0.5, "TIE": 0.5, "B": 0.0}
_VALUES = {**VERDICTS, **_TURNED, **_UNGRADED}
_NOT = r"can't|cannot|can not|won't|will not|am unable to|'m unable to|am not able to|'m not able to"
_JUDGING = "assist|help|comply|provide|judge|rate|evaluate|assess|score|compare|engage|answer|continue|discuss|do"
_REFUSAL = re.compile(
    rf"\W*(?:i(?:'m| am) (?:\w+ )?sorry\b|sorry,|i apologi[sz]e\b|as an ai\b|i ?(?:{_NOT}) (?:{_JUDGING})\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Rating:
    """A level on an aspect's scale; a judge may place a completion between two levels."""

    level: float
    rationale: str | None


@dataclass(frozen=True, slots=True)
class Preference:
    """How far the completion shown first is preferred, from 0 to 1."""

    first: float
    rationale: str | None


@dataclass(frozen=True, slots=True)
class Unread:
    """Why a reply holds no usable verdict."""

    kind: ScoreFailureKind
    detail: str


def ratings(reply: Reply, aspects: Sequence[Aspect]) -> list[Rating | Unread]:
    """What a reply says on each of the aspects it was asked about together; one it leaves out fails alone."""
    unusable = _unusable(reply)
    if unusable:
        return [unusable] * len(aspects)
    text, alone = answer(reply.text), len(aspects) == 1
    return [_rating(number_claims(text, aspect.name, alone=alone), aspect, text) for aspect in aspects]


def preference(reply: Reply) -> Preference | Unread:
    """What a reply says about a pair."""
    unusable = _unusable(reply)
    if unusable:
        return unusable
    text = answer(reply.text)
    claim = _agreed(verdict_claims(text), text, "verdict")
    if isinstance(claim, Unread):
        return claim
    value = _VALUES.get(str(claim.value))
    if value is None:
        return _unparsable(f"the verdict is {_shown(claim.value)}, expected one of {', '.join(VERDICTS)}")
    return Preference(value, claim.rationale)


def _unusable(reply: Reply) -> Unread | None:
    if reply.refusal or reply.finish_reason == FILTERED_REASON:
        return Unread(ScoreFailureKind.REFUSED, "the endpoint says that the judge refused")
    if reply.finish_reason == CUT_OFF_REASON:
        return Unread(ScoreFailureKind.CUT_OFF, "the reply was cut off: raise max_tokens")
    if not reply.text.strip():
        return _unparsable("the reply is empty")
    return None


def _rating(claims: Sequence[Claim], aspect: Aspect, text: str) -> Rating | Unread:
    claim = _agreed(claims, text, f"score for {aspect.name!r}")
    if isinstance(claim, Unread):
        return claim
    lowest, highest = aspect.scale
    other_scale = next((c.top for c in claims if c.top not in (None, highest)), None)
    level = claim.value
    if isinstance(level, str) or not lowest <= level <= highest or other_scale is not None:
        got = _shown(level) + (f" of {other_scale}" if other_scale is not None else "")
        return _unparsable(f"the score for {aspect.name!r} is {got}, expected {lowest} to {highest}")
    return Rating(level, claim.rationale)


def _agreed(claims: Sequence[Claim], text: str, what: str) -> Claim | Unread:
    """The one claim of the reply; of several that agree, one with a rationale."""
    if not claims:
        if _REFUSAL.match(text.replace("\u2019", "'")):
            return Unread(ScoreFailureKind.REFUSED, "the reply begins as refusals do and holds no verdict")
        return _unparsable(f"the reply holds no {what}")
    values = list(dict.fromkeys(claim.value for claim in claims))
    if len(values) > 1:
        return _unparsable(f"the reply holds more than one {what}: {_shown(values[0])} and {_shown(values[1])}")
    return next((claim for claim in claims if claim.rationale is not None), claims[0])


def _shown(value: float | str) -> str:
    return repr(value[:LONGEST_SHOWN]) if isinstance(value, str) else f"{value:g}"


def _unparsable(detail: str) -> Unread:
    return Unread(ScoreFailureKind.UNPARSABLE, detail)
