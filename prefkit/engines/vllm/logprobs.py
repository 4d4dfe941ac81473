"""Log-probs of given completions under a causal language model, with vLLM in this process.

The tokens are those of the transformers engine, and so are the log-probs, to 1e-5 in float32. A text is read once:
its tokens but the last as a prompt whose log-probs are asked for, the last as the token to come (see `asks`), so
every text that the model can read is scored. vLLM takes these log-probs from the raw logits, at T = 1.

A prompt that several completions share is read with each of them, since vLLM does not look into its prefix cache for a
text whose log-probs are wanted, and all its tokens meet the vocabulary. So where the model fits either, the
transformers engine is the faster one (measured on a CPU only).
"""

from collections.abc import Iterator, Sequence

import torch

from prefkit.engines.chat import Chat
from prefkit.engines.gathering import gathered
from prefkit.engines.logprobs_tokens import scored, trained_tokens
from prefkit.engines.vllm.asks import Answer, AskFailure, Engine, read_logprobs, reading
from prefkit.engines.vllm.engine import LocalEngine
from prefkit.engines.vllm.model import require_model
from prefkit.errors import RecipeError, SourceError
from prefkit.identity import Json
from prefkit.sampling.policy import policy_folder
from prefkit.shift.protocol import Logprobs, Text, Trained
from prefkit.shift.registry import ROLE, Reference

AT_ONCE = 512
"""Results that are handed on together."""
SETTINGS: dict[str, Json] = {
    "runner": "generate",
    "max_model_len": -1,  # as long as the model can read and the memory holds
    # The logits of a prompt lie outside the share of the memory that vLLM plans with.
    "gpu_memory_utilization": 0.8,
}
GPU_SETTINGS: dict[str, Json] = {"max_num_batched_tokens": 2048}
"""A long prompt is read in parts, so that no more logits are held at once."""


class VllmReference:
    """A causal language model in vLLM that scores given tokens. `subject` is what messages call it."""

    def __init__(self, engine: Engine, chat: Chat, model_id: str, dtype: str, subject: str = ROLE) -> None:
        self._engine = engine
        self._chat = chat
        self._model_id = model_id
        self._dtype = dtype
        self._subject = subject

    @classmethod
    def open(cls, reference: Reference, model_id: str) -> "VllmReference":
        """Loads the model into vLLM. Raises MissingExtraError, SourceError or RecipeError in one line."""
        subject = f"{ROLE} {reference.model!r}"
        if reference.device != "auto":
            raise RecipeError(
                f"check.device is {reference.device!r}, expected auto with vLLM, which takes the device it was built "
                "for: choose a GPU by CUDA_VISIBLE_DEVICES"
            )
        folder = policy_folder(reference.model, reference.revision, ROLE)
        chat = Chat.from_folder(folder, trust_remote_code=reference.trust_remote_code, role=ROLE)
        require_model(folder, chat.vocabulary, reference.trust_remote_code, subject)
        given: dict[str, Json] = {"dtype": reference.dtype, "trust_remote_code": reference.trust_remote_code}
        on_gpu = GPU_SETTINGS if torch.cuda.is_available() else {}
        engine = LocalEngine.open(folder, {**SETTINGS, **on_gpu, **given}, ROLE)
        return cls(engine, chat, model_id, reference.dtype, subject)

    @property
    def model_id(self) -> str:
        return self._model_id

    def close(self) -> None:
        """Frees the engine's memory."""
        self._engine.close()

    def trained(self, texts: Sequence[Text], max_length: int | None) -> list[Trained]:
        """The tokens that TRL's DPOTrainer would train on, in order, and errors, as with the transformers engine."""
        return trained_tokens(self._chat, texts, max_length, self._engine.context, self._subject)

    def logprobs(self, rows: Sequence[Trained]) -> Iterator[Sequence[Logprobs]]:
        """Yields the rows without a token first, then the others as they finish.

        Raises RecipeError when one does not fit into memory, SourceError when the model gives numbers that are not
        finite; what was yielded stands.
        """
        if empty := [Logprobs(row.id, ()) for row in rows if not row.tokens]:
            yield empty
        try:
            yield from gathered(self._scored([row for row in rows if row.tokens]), AT_ONCE)
        finally:
            self._engine.cancel()

    def _scored(self, rows: Sequence[Trained]) -> Iterator[Sequence[Logprobs]]:
        for place, row in enumerate(rows):
            self._engine.submit(reading(str(place), row.prompt_ids, row.completion_ids))
        try:
            while finished := self._engine.finished():
                yield [self._outcome(rows[int(id)], answer) for id, answer in finished]
        except torch.OutOfMemoryError:
            longest = max(len(row.prompt_ids) + row.tokens for row in rows)
            raise RecipeError(
                f"the texts, of up to {longest} tokens, do not fit into the memory beside {self._subject} in vLLM: "
                "lower max_length, or use the transformers backend"
            ) from None

    def _outcome(self, row: Trained, answer: Answer | AskFailure) -> Logprobs:
        if isinstance(answer, AskFailure):
            raise SourceError(f"{self._subject} left {row.id.hex()} unread: {answer.detail}; run the check again")
        return scored(row, read_logprobs(answer, row.tokens), self._subject, self._dtype)
