"""Between messages and tokens: a model's tokenizer, its chat template and its end-of-sequence tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from jinja2 import TemplateError
from transformers import AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase

from prefkit.errors import SourceError
from prefkit.sampling.protocol import Message, with_system

UNSAID = 10**9
"""Tokenizers without a longest length claim an astronomic one."""


class UnsupportedContentError(Exception):
    """The chat template refuses these messages."""


class Chat:
    """Prompts and conversations as the model reads them, completions as people read them."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, system: str | None = None) -> None:
        self._tokenizer = tokenizer
        self._system = system

    @classmethod
    def from_folder(
        cls, folder: Path, system: str | None = None, trust_remote_code: bool = False, role: str = "policy"
    ) -> "Chat":
        """Raises SourceError when the tokenizer cannot be read or its template cannot render a plain question.

        `role` is what the message calls the model.
        """
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
        except (OSError, ValueError, KeyError) as error:
            raise SourceError(f"the tokenizer of {role} {str(folder)!r} cannot be read: {first_line(error)}") from None
        chat = cls(tokenizer, system)
        try:
            chat.prompt_ids([{"role": "user", "content": "Hello"}])
        except UnsupportedContentError as error:
            culprit = " with a system message (set `sample.system` to null)" if system is not None else ""
            raise SourceError(
                f"the chat template of {role} {str(folder)!r} cannot render a plain question{culprit}: {error}"
            ) from None
        return chat

    def prompt_ids(self, prompt: Sequence[Message]) -> list[int]:
        """Token ids of the conversation with the opening of the assistant's turn; never empty.

        Raises UnsupportedContentError when the template refuses it.
        """
        [token_ids] = self.token_ids([self.prompt_text(prompt)])
        if not token_ids:
            raise UnsupportedContentError("the chat template gives an empty prompt")
        return token_ids

    def prompt_text(self, prompt: Sequence[Message]) -> str:
        """The conversation with the opening of the assistant's turn. Raises as `prompt_ids`."""
        return self._rendered(prompt, add_generation_prompt=True)

    def conversation_text(self, messages: Sequence[Message]) -> str:
        """The conversation, its last turn closed. Raises as `prompt_ids`."""
        return self._rendered(messages, add_generation_prompt=False)

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of rendered texts. Nothing is added: the template writes the special tokens itself."""
        if not texts:
            return []
        # Not verbose: whoever asks compares lengths with limits himself.
        return self._tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]

    def _rendered(self, messages: Sequence[Message], add_generation_prompt: bool) -> str:
        plain = [{"role": m["role"], "content": m["content"]} for m in with_system(messages, self._system)]
        try:
            text = self._tokenizer.apply_chat_template(
                plain, add_generation_prompt=add_generation_prompt, tokenize=False
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise UnsupportedContentError(first_line(error)) from None
        return cast(str, text)

    def text(self, token_ids: Sequence[int]) -> str:
        """The completion without special tokens."""
        return cast(
            str, self._tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )

    def eos_ids(self, generation: GenerationConfig | None) -> frozenset[int]:
        """Tokens that end a turn: those of the generation config, else the tokenizer's."""
        given = cast("int | list[int] | None", generation.eos_token_id if generation is not None else None)
        if given is None:
            given = cast("int | None", self._tokenizer.eos_token_id)
        if given is None:
            return frozenset()
        return frozenset([given] if isinstance(given, int) else given)

    @property
    def longest(self) -> int | None:
        """Most tokens the tokenizer is meant to give, or None when it does not say."""
        length = cast(int, self._tokenizer.model_max_length)
        return length if length < UNSAID else None

    @property
    def vocabulary(self) -> int:
        """One more than the largest token id the tokenizer gives."""
        return max(self._tokenizer.get_vocab().values()) + 1


def rendered(chat: Chat, prompts: Sequence[Sequence[Message]]) -> list[list[int] | UnsupportedContentError]:
    """Token ids or the template's refusal for each prompt; equal prompts, as in a group, are rendered once."""
    known: dict[tuple[tuple[str, str], ...], list[int] | UnsupportedContentError] = {}
    outcomes: list[list[int] | UnsupportedContentError] = []
    for prompt in prompts:
        key = tuple((m["role"], m["content"]) for m in prompt)
        if key not in known:
            known[key] = _rendered_one(chat, prompt)
        outcomes.append(known[key])
    return outcomes


def _rendered_one(chat: Chat, prompt: Sequence[Message]) -> list[int] | UnsupportedContentError:
    try:
        return chat.prompt_ids(prompt)
    except UnsupportedContentError as error:
        return error


def first_line(error: Exception) -> str:
    """An error's message, cut to one line."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
