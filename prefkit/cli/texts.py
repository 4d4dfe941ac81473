"""Prompts and completions as text to read."""

from collections.abc import Sequence
from typing import TypedDict

LONGEST = 2_000
ONE_ROW = 200


class Turn(TypedDict):
    """A message as the store gives it."""

    role: str
    content: str


def conversation_text(messages: Sequence[Turn] | None) -> str:
    """The text of one user message, else every message with its role, shortened."""
    turns = messages or ()
    if len(turns) == 1 and turns[0]["role"] == "user":
        return shortened(turns[0]["content"])
    return shortened(_with_roles(turns))


def completion_text(messages: Sequence[Turn] | None) -> str:
    """What the model said, shortened."""
    return shortened(said(messages))


def said(messages: Sequence[Turn] | None) -> str:
    """The whole text of a single message, else every message with its role."""
    turns = messages or ()
    return turns[0]["content"] if len(turns) == 1 else _with_roles(turns)


def _with_roles(turns: Sequence[Turn]) -> str:
    return "\n".join(f"[{turn['role']}] {turn['content']}" for turn in turns)


def shortened(text: str, longest: int = LONGEST) -> str:
    """The text, cut at a length, with what was cut counted."""
    return text if len(text) <= longest else f"{text[:longest]}… (+{len(text) - longest:,} characters)"


def one_row(text: str) -> str:
    """The text on one line, for a table."""
    return shortened(" ".join(text.split()), ONE_ROW)


def short_id(value: bytes | str | None) -> str:
    """The first twelve hex digits of an id."""
    return "-" if value is None else (value.hex() if isinstance(value, bytes) else value)[:12]
