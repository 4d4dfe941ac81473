"""Log-probs of given completions under a causal language model, with transformers in this process.

Rows are sorted by length and cut into batches of so many tokens, so that little is padding; completions of one prompt
share it (`logprobs_packing`), and only their tokens meet the vocabulary (`logprobs_forward`). In float32 a row's
log-probs are the same to 1e-5 whatever it is scored with.
"""

from collections.abc import Iterator, Sequence
from typing import Self

import torch
from transformers import PreTrainedModel

from prefkit.engines.batching import batches
from prefkit.engines.chat import Chat
from prefkit.engines.loading import context_length, load_policy, require_embeddings, require_generator, torch_device
from prefkit.engines.logprobs_forward import abilities, token_logprobs
from prefkit.engines.logprobs_packing import Row, batch_of, rows_of
from prefkit.engines.logprobs_tokens import scored, trained_tokens
from prefkit.errors import RecipeError
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
    def open(cls, reference: Reference, model_id: str) -> Self:
        """Loads weights and tokenizer. Raises SourceError or RecipeError in one line."""
        subject = f"{ROLE} {reference.model!r}"
        device = torch_device(reference.device, "check")
        folder = policy_folder(reference.model, reference.revision, ROLE)
        chat = Chat.from_folder(folder, trust_remote_code=reference.trust_remote_code, role=ROLE)
        model = load_policy(folder, getattr(torch, reference.dtype), device, reference.trust_remote_code, ROLE)
        require_generator(model.config, subject)
        require_embeddings(model, chat.vocabulary, subject)
        return cls(model, chat, model_id, subject)

    @property
    def model_id(self) -> str:
        return self._model_id

    def close(self) -> None:
        """Lets go of the weights."""
        del self._model
        torch.cuda.empty_cache()

    def trained(self, texts: Sequence[Text], max_length: int | None) -> list[Trained]:
        """The tokens that TRL's DPOTrainer would train on, in order; token ids that are known are used as they are.

        Raises SourceError when the template refuses a text or token ids are of another tokenizer, and RecipeError when
        what `max_length` leaves of a text is longer than the model can read.
        """
        return trained_tokens(self._chat, texts, max_length, context_length(self._model), self._subject)

    def logprobs(self, rows: Sequence[Trained]) -> Iterator[Sequence[Logprobs]]:
        """Yields the rows without a token first, then batches with the longest rows first.

        Completions of one prompt are fastest when they come in one call. Raises RecipeError when one row does not fit
        into memory, SourceError when the model gives numbers that are not finite; what was yielded stands.
        """
        if empty := [Logprobs(row.id, ()) for row in rows if not row.tokens]:
            yield empty
        unscored = [row for row in rows if row.tokens]
        packed = rows_of(unscored, self._model.config.get_text_config().hidden_size, self._abilities.shares)
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
        dtype = str(self._model.dtype).removeprefix("torch.")
        outcomes: list[Logprobs] = []
        start = 0
        for completion in completions:
            own = values[start : start + completion.tokens]
            outcomes.append(scored(completion, own, self._subject, dtype))
            start += completion.tokens
        return outcomes
