"""Prompts as conversations: which ones can be carried, and their ids.

A prompt that can be carried is a list of text messages of known roles, the last one from the user.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from json.encoder import encode_basestring
from typing import cast

from prefkit.identity import ID_BYTES
from prefkit.sampling.protocol import Message

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a prompt is not imported."""

    outcome: str
    detail: str | None


def prompt_id(messages: Sequence[Message]) -> bytes:
    """`content_id("prompt", messages)`, four times as fast: a message has one form, so it is written directly."""
    written = (
        f'{{"content":{encode_basestring(m["content"])},"role":{encode_basestring(m["role"])}}}' for m in messages
    )
    return blake2b(f"[{','.join(written)}]".encode(), digest_size=ID_BYTES, person=b"prompt").digest()


def plain_prompt_ids(texts: Iterable[str]) -> list[bytes]:
    """The prompt id of each text as a conversation of one user message."""
    written = (f'[{{"content":{encode_basestring(text)},"role":"user"}}]'.encode() for text in texts)
    return [blake2b(prompt, digest_size=ID_BYTES, person=b"prompt").digest() for prompt in written]


def conversation(text: str) -> list[Message] | Refusal:
    """The messages of a conversation written as a JSON list, or why they cannot be carried.

    A conversation that ends with the assistant is refused: its last message is an answer, which would be shown to the
    policy as part of the prompt.
    """
    items = cast("list[object]", json.loads(text))
    for index, item in enumerate(items):
        problem = message_problem(item)
        if problem is not None:
            return Refusal("unsupported_content", f"message {index + 1} {problem}")
    messages = [Message(role=m["role"], content=m["content"]) for m in cast("list[Message]", items)]
    if not any(message["content"].strip() for message in messages):
        return Refusal("empty_prompt", None)
    if messages[-1]["role"] != "user":
        return Refusal("unsupported_content", f"the last message is from {messages[-1]['role']!r}, expected 'user'")
    return messages


def message_problem(item: object) -> str | None:
    """What keeps a message of a JSON list from being carried, or None."""
    if not isinstance(item, dict):
        return "is no object with role and content"
    message = cast("dict[str, object]", item)
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        return f"has the role {repr(role)[:40]}, expected one of {', '.join(ROLES)}"
    if not isinstance(content, str):
        return "has content that is not a string"
    extra = sorted(key for key in message if key not in ("role", "content") and message[key] not in (None, [], {}, ""))
    return f"has {extra[0]!r}, which cannot be carried" if extra else None
