"""What an HTTP answer of a chat endpoint means: a reply, or a trouble and what is to be done about it.

A trouble belongs to the call (it becomes a failure), to the endpoint (a wrong key, an unknown model: every call would
end so, and the user is told once), or it is doubtful which: a 400 may be about one text or about every request. What is
doubtful is the call's when the endpoint has ever answered properly, and the endpoint's when it has not.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import cast

from prefkit.scoring.judge.backoff import retry_after_s
from prefkit.scoring.judge.wire import Tokens
from prefkit.scoring.protocol import ScoreFailureKind

Object = Mapping[str, object]

LONGEST_RAW = 4_000
LONGEST_DETAIL = 200

_TOO_LONG = re.compile(
    r"context[ _](length|size|window)|maximum (context|input|prompt|model)[ _]len|(prompt|input|request)[^.]{0,40} too "
    r"(long|large)|too many tokens|reduce the length|exceed_context",
    re.IGNORECASE,
)
_REFUSED = re.compile(r"content[ _](filter|management|policy)|moderation|flagged|safety|usage polic", re.IGNORECASE)
_NO_CREDIT = re.compile(r"insufficient_quota|insufficient[ _](balance|credit|funds)|billing", re.IGNORECASE)
_LENGTH_PARAMETER = re.compile(r"max_tokens.{0,80}use .{0,3}max_completion_tokens", re.IGNORECASE | re.DOTALL)


class Blame(Enum):
    """Whose trouble it is."""

    CALL = auto()
    """This call's alone."""
    ENDPOINT = auto()
    """Every call's: the user has to do something."""
    DOUBTFUL = auto()
    """The endpoint's, unless it has answered properly before."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A proper chat completion; `used` is None when it does not say what it was billed."""

    text: str
    finish_reason: str | None
    refusal: str | None
    used: Tokens | None


@dataclass(frozen=True, slots=True)
class Trouble:
    """Anything else. `billable`: it may have been billed. `again`: another attempt may end better."""

    kind: ScoreFailureKind
    detail: str
    raw: str | None = None
    billable: bool = False
    again: bool = False
    after_s: float | None = None
    blame: Blame = Blame.CALL
    status: int | None = None
    """The HTTP status, where there was an answer."""
    wants_completion_tokens: bool = False
    """The endpoint knows `max_tokens` only as `max_completion_tokens`."""


def outcome(status: int, headers: Mapping[str, str], content: bytes) -> Answered | Trouble:
    """What an answer means; names of headers are in lower case."""
    document = _json(content)
    if status != 200:
        return _refusal(status, headers, content, document)
    error = document.get("error") if document is not None else None
    if document is not None and isinstance(error, Mapping) and not document.get("choices"):
        # Some gateways report what went wrong behind them under a 200 of their own.
        code = cast(Object, error).get("code")
        return _refusal(code if isinstance(code, int) else 502, headers, content, document)
    answered = None if document is None else _completion(document)
    if answered is not None:
        return answered
    what = "a web page" if _is_page(headers, content) else "no JSON" if document is None else "no chat completion"
    return Trouble(
        ScoreFailureKind.UNPARSABLE,
        f"the endpoint answered {what}",
        _shown(content),
        billable=True,
        again=True,
        blame=Blame.DOUBTFUL,
    )


def _completion(document: Object) -> Answered | None:
    match document:
        case {"choices": [{"message": dict(message), **choice}, *_]}:
            found = cast(Object, message)
            refusal, finish = found.get("refusal"), choice.get("finish_reason")
            return Answered(
                _text(found.get("content")),
                finish if isinstance(finish, str) else None,
                refusal if isinstance(refusal, str) and refusal else None,
                _usage(document.get("usage")),
            )
        case _:
            return None


def _text(content: object) -> str:
    """The text of a message, whose content some servers send in parts."""
    if isinstance(content, list):
        parts = [cast(Object, part) for part in cast("list[object]", content) if isinstance(part, Mapping)]
        return "".join(str(part["text"]) for part in parts if isinstance(part.get("text"), str))
    return content if isinstance(content, str) else ""


def _usage(usage: object) -> Tokens | None:
    match usage:
        case {"prompt_tokens": int(read), "completion_tokens": int(written)} if read > 0 and written >= 0:
            return Tokens(read, written)
        case _:
            return None


def _refusal(status: int, headers: Mapping[str, str], content: bytes, document: Object | None) -> Trouble:
    says = _message(document) or ("a web page" if _is_page(headers, content) else _shown(content))
    detail, raw, after = f"{status}: {_line(says)}", _shown(content), retry_after_s(headers)
    no_credit = document is not None and _NO_CREDIT.search(json.dumps(document)) is not None
    kinds = ScoreFailureKind
    match status:
        case 401:
            return Trouble(kinds.CONNECTION, "401", blame=Blame.ENDPOINT, status=status)
        case 402 | 404 | 405:
            return Trouble(kinds.CONNECTION, detail, raw, blame=Blame.ENDPOINT, status=status)
        case 429 if no_credit:
            return Trouble(kinds.CONNECTION, detail, raw, blame=Blame.ENDPOINT, status=status)
        case 429:
            return Trouble(kinds.CONNECTION, detail, raw, again=True, after_s=after)
        case 408 | 409 | 425:
            return Trouble(kinds.TIMEOUT, detail, raw, billable=True, again=True, after_s=after)
        case _ if status >= 500:
            return Trouble(kinds.CONNECTION, detail, raw, billable=True, again=True, after_s=after)
        case _:
            return _rejection(status, detail, raw)


def _rejection(status: int, detail: str, raw: str) -> Trouble:
    """A request that was read and not accepted, which is final and costs nothing."""
    kinds = ScoreFailureKind
    if status == 413 or _TOO_LONG.search(raw):
        return Trouble(kinds.TOO_LONG, detail, raw)
    if _LENGTH_PARAMETER.search(raw):
        return Trouble(kinds.REFUSED, detail, raw, blame=Blame.ENDPOINT, wants_completion_tokens=True)
    if _REFUSED.search(raw):
        return Trouble(kinds.REFUSED, detail, raw)
    return Trouble(kinds.REFUSED, detail, raw, blame=Blame.DOUBTFUL, status=status)


def _message(document: Object | None) -> str:
    """The message of an error, in the shapes that servers give it."""
    match document:
        case {"error": {"message": str(message)}} | {"error": str(message)} | {"message": str(message)}:
            return message
        case {"detail": detail}:
            return detail if isinstance(detail, str) else json.dumps(detail)
        case _:
            return ""


def _json(content: bytes) -> Object | None:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return cast(Object, document) if isinstance(document, dict) else None


def _is_page(headers: Mapping[str, str], content: bytes) -> bool:
    return "html" in headers.get("content-type", "") or content[:100].lstrip().lower().startswith(
        (b"<!doctype", b"<html")
    )


def _shown(content: bytes) -> str:
    return content[:LONGEST_RAW].decode(errors="replace")


def _line(text: str) -> str:
    return " ".join(text.split())[:LONGEST_DETAIL]
