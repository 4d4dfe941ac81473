"""A policy's tokenizer and chat template, without its weights: the tokens a trainer sees."""

from collections.abc import Sequence

from prefkit.engines.chat import Chat
from prefkit.engines.logprobs_tokens import trained_tokens
from prefkit.sampling.policy import policy_folder
from prefkit.shift.protocol import Text, Trained
from prefkit.shift.registry import Reference


class PolicyTokens:
    """A tokenizer with its chat template. `subject` is what messages call its policy."""

    def __init__(self, chat: Chat, subject: str) -> None:
        self._chat = chat
        self._subject = subject

    @classmethod
    def open(cls, reference: Reference) -> "PolicyTokens":
        """Reads no weights. Raises SourceError for a tokenizer or chat template that cannot be read."""
        folder = policy_folder(reference.model, reference.revision)
        chat = Chat.from_folder(folder, trust_remote_code=reference.trust_remote_code)
        return cls(chat, f"policy {reference.model!r}")

    def trained(self, texts: Sequence[Text], max_length: int | None) -> list[Trained]:
        """The same as of a reference model with this tokenizer; but how much a model can read is not known here."""
        return trained_tokens(self._chat, texts, max_length, None, self._subject)
