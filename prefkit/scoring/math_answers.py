r"""Answers that are decided without a computer algebra system, and the form in which a gold answer is handed to one.

`decide` is a short cut, not a second opinion: it speaks only about texts of which math-verify's own rules leave one
reading, and there it says what math-verify would say. Those are texts whose last number follows a word, `:`, `#` or `=`
and is followed by words alone ("The answer is 1,234 euros.", "#### 7.5"), and texts with one `\boxed{}`, bare, in
`$...$` or in `\(...\)`, followed by words alone. Everything else is None.
"""

import re
from dataclasses import dataclass
from decimal import Decimal

NUMBER = r"(?:-?[1-9][0-9]{0,2}(?:,[0-9]{3}){1,3}|-?[1-9][0-9]{0,11}|-?0(?=\.[0-9])|0)(?:\.[0-9]{1,6})?"
"""The numbers decided here; short enough to be exact as a floating-point number of 15 digits, rounded to 6 decimals."""
CLEARLY_DIFFERENT = Decimal("0.0001")
"""math-verify compares after rounding to 6 decimals; nearer than this, it is asked."""

_WORDS = r"(?!\s*(?:[Pp]ercent|[Pp]ct))[A-Za-z\s.,']*\Z"
_WORDS_ALONE = re.compile(_WORDS)
_NUMBER = re.compile(NUMBER)
_GOLD_NUMBER = re.compile(rf"\$?({NUMBER})")
_DELIMITED = re.compile(r"\\boxed|\\\(|\\\[|(?<!\\)\$|(?i:answer)")
# What precedes the number must not be able to join it in one expression, so a digit, operator or parenthesis may not.
_LAST_NUMBER = re.compile(rf"(?:^|[A-Za-z:#]\s+|=\s*)\$?({NUMBER}){_WORDS}")
_ANSWER_IS_LAST_NUMBER = re.compile(rf"(?i:answer) is:? {{1,5}}\$?{NUMBER}{_WORDS}")
_ANSWER = re.compile(r"(?i:answer)")
_ANSWER_COLON = re.compile(r"(?i:answer:)")
_FINAL_ANSWER_IS = re.compile(r"final answer.{0,100}?\s+is", re.IGNORECASE | re.DOTALL)
_BOX = "\\boxed{"


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict and the two readings it compares."""

    correct: bool
    extracted: str
    gold: str


def final_gold(answer: str) -> str:
    """The gold answer itself: what follows the last `####`, if there is one (as in GSM8K), else all of it."""
    return answer.rpartition("####")[2].strip()


def gold_source(gold: str) -> str:
    """The gold answer as math-verify reads it: boxed, unless it says itself where its mathematics is."""
    return gold if _DELIMITED.search(gold) else f"{_BOX}{gold}}}"


def decide(gold: str, text: str) -> Decision | None:
    """What math-verify says of the answer in `text` (gold as `final_gold` gives it), where that needs no algebra."""
    boxed = boxed_answer(text)
    if boxed is not None and boxed == gold and _equal_as_text(gold):
        return Decision(True, boxed, gold)
    extracted = last_number(text) if boxed is None else boxed if _NUMBER.fullmatch(boxed) else None
    wanted = _GOLD_NUMBER.fullmatch(gold)
    if wanted is None or extracted is None:
        return None
    difference = abs(_value(extracted) - _value(wanted[1]))
    if 0 < difference < CLEARLY_DIFFERENT:
        return None
    return Decision(difference == 0, extracted, wanted[1])


def boxed_answer(text: str) -> str | None:
    r"""What the only `\boxed{}` holds; None when there is none, or when the text has other readings."""
    start = text.rfind(_BOX)
    if start < 0 or text.count("\\boxed") > 1 or "\\fbox" in text or _FINAL_ANSWER_IS.search(text):
        return None
    end = _closing_brace(text, start + len(_BOX))
    if end is None or not _stands_alone(text, start, end + 1):
        return None
    return text[start + len(_BOX) : end].strip()


def last_number(text: str) -> str | None:
    """The number that ends the text but for words; None when the text has other readings."""
    found = _LAST_NUMBER.search(text)
    if found is None or "\\boxed" in text:
        return None
    if _ANSWER.search(text) and not _answer_is_last(text):
        return None
    return found[1]


def _answer_is_last(text: str) -> bool:
    if _ANSWER_COLON.search(text) or _FINAL_ANSWER_IS.search(text):
        return False
    return _ANSWER_IS_LAST_NUMBER.search(text) is not None


def _closing_brace(text: str, start: int) -> int | None:
    depth = 1
    for brace in re.finditer(r"[{}]", text[start:]):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return start + brace.start()
    return None


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether the box is all there is between its delimiters, if it has any, and only words follow."""
    if _WORDS_ALONE.match(text, end):
        return True
    before = text[:start]
    if text.startswith("$", end):
        alone = re.search(r"(?<![\\$\d])\$\Z", before) is not None
        return alone and _WORDS_ALONE.match(text, end + 1) is not None
    if text.startswith("\\)", end) and before.endswith("\\("):
        closed = "\\(" not in re.split(r"\\\)|\n", before[:-2])[-1]
        return closed and _WORDS_ALONE.match(text, end + 2) is not None
    return False


def _equal_as_text(gold: str) -> bool:
    """Whether math-verify finds this text equal to itself: a number in it, a proper end, and nothing ends its box."""
    whole = re.search(r"[0-9]", gold) is not None and re.search(r"[0-9A-Za-z})\]]\Z", gold) is not None
    return whole and re.search(r"[$\n]|\\\)|\\boxed|\\text|\\mbox", gold) is None


def _value(number: str) -> Decimal:
    return Decimal(number.replace(",", ""))
