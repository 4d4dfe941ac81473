"""The smallest parts of a told story: numbers, ids, settings, tries and texts, as a terminal shows them.

Texts were written by models: control characters are shown escaped, so no text can steer the terminal.
"""

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from prefkit.identity import Json
from prefkit.pipeline.tracing.story import Call, Draw, Settings, Try
from prefkit.sampling.protocol import Message

WIDTH = 96
SHORT = 12
"""Digits of an id as shown in lines; enough to trace it in its turn."""


def shown(line: str) -> str:
    """The line with every character that a terminal would obey, and not show, escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def wrapped(line: str) -> list[str]:
    """The line in as many as it takes, further ones indented."""
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    return textwrap.wrap(line, WIDTH, subsequent_indent=indent, replace_whitespace=False, break_on_hyphens=False) or [
        ""
    ]


def short(hex_id: str | None) -> str:
    """The first digits of an id."""
    return hex_id[:SHORT] if hex_id else "unknown"


def number(value: float | None) -> str:
    """A score, margin or preference."""
    return "none" if value is None else f"{value:.9g}"


def values(told: Json) -> str:
    """`name value, name value`, without those that are not set."""
    if not isinstance(told, Mapping):
        return json.dumps(told, ensure_ascii=False)
    known = {k: v for k, v in told.items() if v not in (None, [])}
    return ", ".join(f"{k} {v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)}" for k, v in known.items())


def settings(of: Settings) -> str:
    """A sampler or scorer; an annotator by name alone."""
    if of.annotator is not None:
        return of.annotator
    if of.values is None:
        return f"{of.id} (not on record)"
    return f"{of.name} ({values(of.values)})"


def try_title(name: str, tried: Try, imported: bool) -> str:
    """Which try it is and when; what was imported was not tried."""
    title = "imported" if imported or tried.attempt is None else f"{name} {tried.attempt + 1}"
    return f"{title} at {tried.when}{', superseded' if tried.superseded else ''}"


def failed(tried: Try, imported: bool) -> str:
    """How a try failed and, where it was ours, whether there will be another."""
    detail = f": {tried.detail}" if tried.detail else ""
    again = "the next build tries again" if tried.transient else "final"
    return f"failed, {tried.failure}{detail}" + ("" if imported else f" ({again})")


def drawn(draw: Draw, imported: bool) -> str:
    """How a completion ended; empty where an imported one does not say."""
    if draw.failure:
        return failed(draw, imported)
    ended = draw.finish_reason or ("" if imported else "finished")
    tokens = f"{draw.tokens} tokens" if draw.tokens is not None else ""
    return ", ".join(part for part in (ended, tokens) if part)


def spent(call: Call) -> str:
    """Tokens and money, where they are known."""
    known = {"input tokens": call.input_tokens, "output tokens": call.output_tokens, "cost": call.cost}
    told = values({k: v for k, v in known.items() if v is not None})
    return f" ({told})" if told else ""


def messages(turns: Sequence[Message]) -> Iterator[str]:
    """Each turn with its role."""
    for turn in turns:
        yield from text(f"  {turn['role']}: ", turn["content"])


def text(title: str, of: str) -> Iterator[str]:
    """The text behind its title, further lines of it below its first."""
    first, *more = of.split("\n")
    yield title + first
    yield from (" " * len(title) + line for line in more)
