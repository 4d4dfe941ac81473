"""Two conversations that begin alike: what they share is the prompt, and what follows are the completions.

The prompt is the longest common run of messages that ends with the user. The rest of each conversation is its
completion, which may have several messages: two answers in a row, or a whole battle with the user's later turns in it.
The user's later turns must be the same on both sides, or the two would be answers to different questions.

Nothing is said here about what a message may hold: the import judges prompts and completions by themselves.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, takewhile
from typing import NamedTuple, TypeAlias, cast

import polars as pl

from prefkit.identity import Json, canonical_json
from prefkit.sources.conversations import Refusal
from prefkit.sources.rows import MALFORMED

Turn: TypeAlias = Mapping[str, object]
Cell: TypeAlias = tuple[str | None, str | None]
"""`kind` and `text`."""


class Split(NamedTuple):
    """A shared prompt and what follows it on either side."""

    prompt: Sequence[Turn]
    a: Sequence[Turn]
    b: Sequence[Turn]


def conversation_turns(kind: str | None, text: str | None, called: str) -> list[Turn] | Refusal:
    """The messages of a cell, or why it is not a list of them."""
    if kind != "list" or text is None:
        return Refusal(MALFORMED, f"{called} is of kind {kind or 'null'}, expected a list of messages")
    items = cast("list[object]", json.loads(text))
    turns = [cast(Turn, item) for item in items if isinstance(item, Mapping)]
    if len(turns) < len(items) or not turns:
        return Refusal(MALFORMED, f"{called} is {'empty' if not items else 'no list of messages'}")
    return turns


def split(a: Sequence[Turn], b: Sequence[Turn]) -> Split | Refusal:
    """Prompt and completions of two conversations, or why they cannot be told apart."""
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
    users = [place for place in range(shared) if a[place].get("role") == "user"]
    if not users:
        return Refusal(MALFORMED, "the two conversations share no message of the user")
    after = users[-1] + 1
    parts = Split(a[:after], a[after:], b[after:])
    for called, rest in (("first", parts.a), ("second", parts.b)):
        if not rest or rest[-1].get("role") != "assistant":
            return Refusal(MALFORMED, f"the {called} conversation does not end with an answer")
    if _users(parts.a) != _users(parts.b):
        return Refusal(MALFORMED, "the user says different things in the two conversations")
    return parts


def cell_frame(numbers: pl.Series, found: Iterable[Sequence[Cell] | Refusal], names: Sequence[str]) -> pl.DataFrame:
    """`row`, cells `<name>_kind` and `<name>_text`, `outcome` and `detail`: one row per item of `found`."""
    columns = [f"{name}_{half}" for name in names for half in ("kind", "text")]
    nothing: list[str | None] = [None] * len(columns)
    frame = pl.DataFrame(
        [
            (*nothing, f.outcome, f.detail) if isinstance(f, Refusal) else (*chain.from_iterable(f), None, None)
            for f in found
        ],
        schema=dict.fromkeys([*columns, "outcome", "detail"], pl.String()),
        orient="row",
    )
    return frame.with_columns(row=numbers)


def split_cells(parts: Split | Refusal) -> Sequence[Cell] | Refusal:
    """The cells of prompt and completions, for `cell_frame`."""
    if isinstance(parts, Refusal):
        return parts
    return cell(parts.prompt, "user"), cell(parts.a, "assistant"), cell(parts.b, "assistant")


def cell(turns: Sequence[Turn], alone: str) -> Cell:
    """`kind` and `text` of messages: the plain string where there is one message, and it is of the role `alone`."""
    only = turns[0] if len(turns) == 1 else {}
    content = only.get("content")
    if set(only) == {"role", "content"} and only["role"] == alone and isinstance(content, str):
        return "string", content
    return "list", canonical_json(cast("Sequence[Json]", turns)).decode()


def _users(turns: Sequence[Turn]) -> list[Turn]:
    return [turn for turn in turns if turn.get("role") == "user"]
