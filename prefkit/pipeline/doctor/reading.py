"""How long a text is for the policy, and whether its chat template can be trained on: asked of the policy's tokenizer.

Without a policy, or without transformers, lengths are estimated from bytes and the template is not looked at.
"""

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

from prefkit.pipeline.recipe import Recipe
from prefkit.pipeline.resolve import placed_policy
from prefkit.sampling.config import EndpointSampler, PolicyConfig
from prefkit.sampling.protocol import Message

POLICY_READER = "prefkit.engines.policy_reader:PolicyReader"
BYTES_PER_TOKEN = 4
"""A usual English average."""


class Reader(Protocol):
    """Reads conversations as the policy would. What its chat template refuses has no length: None."""

    @property
    def estimated(self) -> str | None:
        """Why lengths are estimated, or None when they are exact."""
        ...

    @property
    def context(self) -> int | None:
        """Most tokens the policy can read, where that is known."""
        ...

    def prompt_tokens(self, prompts: Sequence[Sequence[Message]]) -> list[int | None]:
        """Tokens of each prompt with the opening of the assistant's turn."""
        ...

    def tokens(self, conversations: Sequence[Sequence[Message]]) -> list[int | None]:
        """Tokens of each conversation with its last turn closed."""
        ...

    def keeps_prefix(
        self, prompts: Sequence[Sequence[Message]], completions: Sequence[str]
    ) -> list[bool | None] | None:
        """Whether the tokens of prompt and completion begin with those of the prompt; None where that is not known."""
        ...


class _Implementation(Protocol):
    def open(self, policy: PolicyConfig) -> Reader: ...


class ByteReader:
    """Estimates."""

    def __init__(self, why: str) -> None:
        self._why = why

    @property
    def estimated(self) -> str | None:
        return self._why

    @property
    def context(self) -> int | None:
        return None

    def prompt_tokens(self, prompts: Sequence[Sequence[Message]]) -> list[int | None]:
        return [_estimate(prompt) for prompt in prompts]

    def tokens(self, conversations: Sequence[Sequence[Message]]) -> list[int | None]:
        return [_estimate(conversation) for conversation in conversations]

    def keeps_prefix(
        self, prompts: Sequence[Sequence[Message]], completions: Sequence[str]
    ) -> list[bool | None] | None:
        return None


def _estimate(messages: Sequence[Message]) -> int:
    return sum(-(-len(m["content"].encode(errors="replace")) // BYTES_PER_TOKEN) for m in messages)


def reader_of(recipe: Recipe, folder: Path) -> Reader:
    """The reader of the policy that will be trained. Raises SourceError for a policy whose tokenizer is broken."""
    policy = placed_policy(recipe.policy, folder)
    if policy is None:
        return ByteReader("the recipe has no policy")
    users = [block for block in recipe.sample if block.policy is None]
    if users and all(isinstance(block, EndpointSampler) for block in users):
        return ByteReader("the policy is behind an endpoint")
    if not all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
        return ByteReader("transformers is not installed")
    module, _, name = POLICY_READER.partition(":")
    return cast(_Implementation, getattr(importlib.import_module(module), name)).open(policy)
