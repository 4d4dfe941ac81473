"""Cells as messages: a string is one message, a JSON list the messages it spells."""

import json
from typing import cast

import numpy as np
import polars as pl
import pyarrow as pa

from prefkit.hashing import hashed
from prefkit.records import MESSAGES
from prefkit.sampling.protocol import Message
from prefkit.sources.conversations import Refusal, conversation, message_problem
from prefkit.sources.outcomes import ImportOutcome


def prompt_messages(kind: str | None, text: str | None) -> list[Message] | Refusal:
    """The prompt of a cell that is no plain text, or why it cannot be carried."""
    if text is None:
        return Refusal(ImportOutcome.MISSING_PROMPT, None)
    match kind:
        case "string":
            return Refusal(ImportOutcome.EMPTY_PROMPT, None)
        case "list":
            return conversation(text)
        case "unreadable":
            return Refusal(ImportOutcome.MALFORMED, f"prompt: {text}")
        case _:
            return Refusal(ImportOutcome.UNSUPPORTED_CONTENT, f"the prompt is of kind {kind}, expected string or list")


def completion_refusal(kind: str | None, text: str | None) -> Refusal | None:
    """Why the completion of a cell cannot be carried; an empty text can."""
    if text is None:
        return Refusal(ImportOutcome.MISSING_TEXT, None)
    match kind:
        case "string":
            return None
        case "list":
            return _spoken_refusal(json.loads(text))
        case "unreadable":
            return Refusal(ImportOutcome.MALFORMED, f"completion: {text}")
        case _:
            why = f"the completion is of kind {kind}, expected string or list"
            return Refusal(ImportOutcome.UNSUPPORTED_CONTENT, why)


def _spoken_refusal(items: list[object]) -> Refusal | None:
    if not items:
        return Refusal(ImportOutcome.MISSING_TEXT, None)
    for number, item in enumerate(items, 1):
        if problem := message_problem(item):
            return Refusal(ImportOutcome.UNSUPPORTED_CONTENT, f"message {number} {problem}")
    for place, item in (("first", items[0]), ("last", items[-1])):
        role = cast(Message, item)["role"]
        if role != "assistant":
            why = f"the {place} message is from {role!r}, expected 'assistant'"
            return Refusal(ImportOutcome.UNSUPPORTED_CONTENT, why)
    return None


def completion_column(cells: pl.DataFrame) -> pa.Array:
    """The messages of completions that can be carried, from `kind` and `text`."""
    if (cells["kind"] == "list").any():
        return pa.array([_completion(kind, text) for kind, text in cells.iter_rows()], MESSAGES)
    texts = cells["text"].fill_null("").to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.string())
    roles = pa.repeat("assistant", len(texts))
    spoken = pa.StructArray.from_arrays([roles, texts], fields=list(MESSAGES.value_type))
    return pa.ListArray.from_arrays(pa.array(np.arange(len(texts) + 1, dtype=np.int32)), spoken, type=MESSAGES)


def _completion(kind: str, text: str) -> list[Message]:
    if kind == "list":
        return [Message(role=m["role"], content=m["content"]) for m in json.loads(text)]
    return [Message(role="assistant", content=text)]


def content_hashes(cells: pl.DataFrame) -> pl.Series:
    """63-bit hashes of the messages of completions, as Int64: `sampler_id` of an imported completion.

    Works through the texts in parts, so that they are never all copied at once.
    """
    parts = [hashed(completion_column(part)) >> np.uint64(1) for part in cells.select("kind", "text").iter_slices(8192)]
    return pl.Series("sampler_id", np.concatenate([np.empty(0, np.uint64), *parts]).astype(np.int64))
