"""Log-probs of given completions under a causal language model, with transformers in this process.

Rows are sorted by length and cut into batches of so many tokens, so that little is padding; completions of one prompt
share it (`logprobs_packing`), and only their tokens meet the vocabulary (`logprobs_forward`). In float32 a row's
log-probs are the same to 1e-5 whatever it is scored with.
"""

from collections.abc import Iterator, Sequence

import torch
from transformers import PreTrainedModel

from prefkit.engines.chat import Chat
from prefkit.engines.loading import context_length, load_policy, require_embeddings, torch_device
from prefkit.engines.logprobs_forward import abilities, token_logprobs
from prefkit.engines.logprobs_packing import Row, batch_of, rows_of
from prefkit.engines.logprobs_tokens import trained_tokens
from prefkit.engines.reward_model import batches
from prefkit.errors import RecipeError, SourceError
from prefkit.sampling.policy import policy_folder
from prefkit.shift.protocol import Logprobs, Text, Trained
from prefkit.shift.registry import ROLE, Reference

BATCH_TOKENS = {"cpu": 1024, "cuda": 16_384}
"""Tokens per forward pass by default; a longer row is read alone."""


class TransformersReference:
    """A causal language model that scores given tokens.

    `subject` is what messages call it, `batch_tokens` how many tokens a forward pass reads, padding included.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        chat: Chat,
        model_id: str,
        subject: str = ROLE,
        batch_tokens: int | None = None,
    ) -> None:
        self._model = model
        self._chat = chat
        self._model_id = model_id
        self._subject = subject
        self._abilities = abilities(model, subject)
        self._batch_tokens = batch_tokens or BATCH_TOKENS.get(model.device.type, BATCH_TOKENS["cuda"])

    @classmethod
    def open(cls, reference: Reference, model_id: str) -> "TransformersReference":
        """Loads weights and tokenizer. Raises SourceError or RecipeError in one line."""
        subject = f"{ROLE} {reference.model!r}"
        device = torch_device(reference.device, "check")
        folder = policy_folder(reference.model, reference.revision, ROLE)
        chat = Chat.from_folder(folder, trust_remote_code=reference.trust_remote_code, role=ROLE)
        model = load_policy(folder, getattr(torch, reference.dtype), device, reference.trust_remote_code, ROLE)
        for architecture in model.config.architectures or ():
            if "Classification" in architecture:
                raise SourceError(
                    f"{subject} is a {architecture}, expected a causal language model: name the model it was made from"
                )
        require_embeddings(model, chat.vocabulary, subject)
        return cls(model, chat, model_id, subject)

    @property
    def model_id(self) -> str:
        return self._model_id

    def trained(self, texts: Sequence[Text], max_length: int | None) -> list[Trained]:
        """The tokens that TRL's DPOTrainer would train on, in order; token ids that are known are used as they are.

        Raises SourceError when the template refuses a text or token ids are of another tokenizer, and RecipeError when
        what `max_length` leaves of a text is longer than the model can read.
        """
        rows = trained_tokens(self._chat, texts, max_length, self._subject)
        context = context_length(self._model)
        lengths = [len(row.prompt_ids) + row.tokens for row in rows]
        if context is not None and (longer := sum(length > context for length in lengths)):
            raise RecipeError(
                f"{self._subject} reads at most {context} tokens, got {longer} of {len(rows)} texts that are longer "
                f"(up to {max(lengths)} tokens) with a max_length of {max_length}: set max_length to {context} or less"
            )
        return rows

    def logprobs(self, rows: Sequence[Trained]) -> Iterator[Sequence[Logprobs]]:
        """Yields the rows without a token first, then batches with the longest rows first.

        Completions of one prompt are fastest when they come in one call. Raises RecipeError when one row does not fit
        into memory, SourceError when the model gives numbers that are not finite; what was yielded stands.
        """
        if empty := [Logprobs(row.id, ()) for row in rows if not row.tokens]:
            yield empty
        scored = [row for row in rows if row.tokens]
        packed = rows_of(scored, self._model.config.get_text_config().hidden_size, self._abilities.shares)
        at_once = max(1, len(packed)) if self._abilities.projects else 1
        for batch in batches([row.length for row in packed], self._batch_tokens, at_once):
            yield from self._scored(packed[batch])

    def _scored(self, rows: Sequence[Row]) -> Iterator[Sequence[Logprobs]]:
        """One batch, or several when it does not fit into memory."""
        try:
            values = token_logprobs(self._model, batch_of(rows, self._model.device), self._abilities.projects).tolist()
        except torch.OutOfMemoryError:
            values = None
        if values is not None:
            yield self._outcomes([c for row in rows for c in row.completions], values)
        elif len(rows) > 1:
            half = len(rows) // 2
            yield from self._scored(rows[:half])
            yield from self._scored(rows[half:])
        else:
            raise RecipeError(
                f"a text of {rows[0].length} tokens does not fit into the memory of {self._model.device} beside "
                f"{self._subject}: lower max_length, or use dtype bfloat16"
            )

    def _outcomes(self, completions: Sequence[Trained], values: Sequence[float]) -> list[Logprobs]:
        if not all(abs(value) < float("inf") for value in values):
            raise SourceError(
                f"{self._subject} gave log-probs that are not finite in {self._model.dtype}: use dtype float32"
            )
        outcomes: list[Logprobs] = []
        start = 0
        for completion in completions:
            outcomes.append(Logprobs(completion.id, values[start : start + completion.tokens]))
            start += completion.tokens
        return outcomes
