"""A policy's tokenizer and chat template, without its weights: how long texts are, and what can be trained on."""

from collections.abc import Iterator, Sequence

from transformers import AutoConfig

from prefkit.engines.chat import Chat, UnsupportedContentError, first_line
from prefkit.errors import SourceError
from prefkit.sampling.config import PolicyConfig
from prefkit.sampling.policy import policy_folder
from prefkit.sampling.protocol import Message

AT_ONCE = 1_000
"""So many texts are held as tokens at a time."""


class PolicyReader:
    """Reads conversations as the policy would. What its chat template refuses has no length: None."""

    def __init__(self, chat: Chat, context: int | None) -> None:
        self._chat = chat
        self._context = context

    @classmethod
    def open(cls, policy: PolicyConfig) -> "PolicyReader":
        """Raises SourceError in one line for a tokenizer, chat template or configuration that cannot be read."""
        folder = policy_folder(policy.model, policy.revision)
        chat = Chat.from_folder(folder, trust_remote_code=policy.trust_remote_code)
        try:
            config = AutoConfig.from_pretrained(folder, trust_remote_code=policy.trust_remote_code)
        except (OSError, ValueError, KeyError) as error:
            raise SourceError(f"the config of policy {str(folder)!r} cannot be read: {first_line(error)}") from None
        length: object = getattr(config.get_text_config(), "max_position_embeddings", None)
        return cls(chat, length if isinstance(length, int) else None)

    @property
    def estimated(self) -> str | None:
        return None

    @property
    def context(self) -> int | None:
        return self._context

    def prompt_tokens(self, prompts: Sequence[Sequence[Message]]) -> list[int | None]:
        return [None if ids is None else len(ids) for ids in self._ids([self._prompt(p) for p in prompts])]

    def tokens(self, conversations: Sequence[Sequence[Message]]) -> list[int | None]:
        return [None if ids is None else len(ids) for ids in self._ids([self._closed(c) for c in conversations])]

    def keeps_prefix(
        self, prompts: Sequence[Sequence[Message]], completions: Sequence[str]
    ) -> list[bool | None] | None:
        """Whether the tokens of prompt and completion begin with those of the prompt; None where one is refused.

        Trainers find the completion by cutting off as many tokens as the prompt has.
        """
        pairs = zip(prompts, completions, strict=True)
        whole = self._ids([self._closed([*p, {"role": "assistant", "content": c}]) for p, c in pairs])
        begun = self._ids([self._prompt(p) for p in prompts])
        return [
            None if start is None or ids is None else ids[: len(start)] == start
            for start, ids in zip(begun, whole, strict=True)
        ]

    def _prompt(self, prompt: Sequence[Message]) -> str | None:
        try:
            return self._chat.prompt_text(prompt)
        except UnsupportedContentError:
            return None

    def _closed(self, conversation: Sequence[Message]) -> str | None:
        try:
            return self._chat.conversation_text(conversation)
        except UnsupportedContentError:
            return None

    def _ids(self, texts: Sequence[str | None]) -> Iterator[list[int] | None]:
        for start in range(0, len(texts), AT_ONCE):
            part = texts[start : start + AT_ONCE]
            ids = iter(self._chat.token_ids([text for text in part if text is not None]))
            yield from (None if text is None else next(ids) for text in part)
