"""Sampling with transformers in this process: the embedded default backend.

The generation loop is our own, because a draw must be a function of the policy and its completion id: the noise is
keyed by the id (`noise`), so in float32 a draw has the same tokens whatever it is batched with. The differences that
remain, of the order of 1e-6 in a log-prob, would have to meet a near-tie between two tokens to show. Both kinds of
log-probs come from one forward pass: that of the batch, or in float32 one over the draw alone, so that they too are the
same bits whatever the draw was batched with.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from math import isfinite

import torch
from transformers import PreTrainedModel

from prefkit.engines.chat import Chat
from prefkit.engines.distribution import Distribution
from prefkit.engines.generation import Draw, Ending, generate, read_alone
from prefkit.engines.loading import context_length, load_policy, require_embeddings, torch_device
from prefkit.engines.noise import row_keys
from prefkit.engines.planning import Planned, first_stop, planned
from prefkit.engines.synced_model import SyncedModel
from prefkit.errors import RecipeError, SyncError
from prefkit.sampling.config import PolicyConfig, SampleConfig
from prefkit.sampling.config import TransformersSampler as TransformersSamplerConfig
from prefkit.sampling.policy import policy_folder
from prefkit.sampling.protocol import Sample, SampleFailure, SampleFailureKind, SampleRequest
from prefkit.sampling.weights import Weights


class TransformersSampler:
    """A causal language model that samples in batches of prompts of similar length."""

    def __init__(self, config: TransformersSamplerConfig, model: PreTrainedModel, chat: Chat, policy_id: str) -> None:
        self._config = config
        self._policy = SyncedModel(model, "sampler")
        self._drawing = 0
        self._chat = chat
        self._policy_id = policy_id
        self._distribution = Distribution(config.temperature, config.top_p, config.top_k)
        self._ending = Ending(
            chat.eos_ids(model.generation_config), config.max_new_tokens, _stop_finder(chat, config.stop)
        )

    @classmethod
    def open(cls, config: SampleConfig, policy: PolicyConfig | None, policy_id: str) -> "TransformersSampler":
        """Loads the policy's weights and tokenizer. Raises SourceError or RecipeError in one line."""
        assert isinstance(config, TransformersSamplerConfig)
        assert policy is not None
        device = torch_device(config.device)
        folder = policy_folder(policy.model, policy.revision)
        chat = Chat.from_folder(folder, config.system, policy.trust_remote_code)
        model = load_policy(folder, getattr(torch, config.dtype), device, policy.trust_remote_code)
        require_embeddings(model, chat.vocabulary, f"policy {policy.model!r}")
        return cls(config, model, chat, policy_id)

    @property
    def policy_id(self) -> str:
        return self._policy_id

    @property
    def policy_version(self) -> int:
        """The version of the last sync. Raises SyncError when the weights are not known."""
        return self._policy.version

    @property
    def deterministic(self) -> bool:
        return self._config.dtype == "float32"

    def close(self) -> None:
        """Lets go of the weights."""
        del self._policy
        torch.cuda.empty_cache()

    def sample(self, requests: Sequence[SampleRequest]) -> Iterator[Sequence[Sample | SampleFailure]]:
        """Yields the requests that cannot be sampled first, then batches with the longest prompts first.

        So a batch that does not fit into memory shows at once. Raises RecipeError for that, and SyncError when the
        weights are not known; what was yielded stands.
        """
        model = self._policy.model
        fitting, failures = planned(self._chat, requests, context_length(model), self._config.max_new_tokens)
        self._drawing += 1
        try:
            if failures:
                yield failures
            fitting.sort(key=lambda p: (-len(p.token_ids), p.request.completion_id))
            cuts = [*range(0, len(fitting), self._config.batch_size), len(fitting)]
            for start, end in pairwise(cuts):
                yield self._batch(model, fitting[start:end])
        finally:
            self._drawing -= 1

    def sync(self, weights: Weights, policy_version: int) -> float:
        """Copies the weights into its own; see `SyncedSampler`."""
        if self._drawing:
            raise SyncError("sampler is still drawing, expected no draws under way: finish or close them before a sync")
        return self._policy.sync(weights, policy_version)

    def _batch(self, model: PreTrainedModel, batch: Sequence[Planned]) -> list[Sample | SampleFailure]:
        keys = row_keys([p.request.completion_id for p in batch], self._config.seed)
        try:
            draws = generate(model, [p.token_ids for p in batch], keys, self._distribution, self._ending)
        except torch.OutOfMemoryError:
            raise RecipeError(
                f"sample.batch_size is {self._config.batch_size}, which does not fit into the memory of "
                f"{model.device} with prompts of {len(batch[0].token_ids)} tokens: lower it"
            ) from None
        if self.deterministic:
            read_alone(model, [p.token_ids for p in batch], draws, self._distribution)
        return [self._outcome(p.request.completion_id, draw) for p, draw in zip(batch, draws, strict=True)]

    def _outcome(self, completion_id: bytes, draw: Draw) -> Sample | SampleFailure:
        if not all(map(isfinite, draw.behavior_logprobs)):
            return SampleFailure(
                completion_id, SampleFailureKind.ABORTED, "the policy gave log-probs that are not finite"
            )
        assert draw.finish_reason is not None
        text = self._chat.text(draw.token_ids)
        return Sample(
            completion_id=completion_id,
            text=text[: first_stop(text, self._config.stop)],
            finish_reason=draw.finish_reason,
            token_ids=draw.token_ids,
            sampling_logprobs=draw.sampling_logprobs,
            behavior_logprobs=draw.behavior_logprobs,
        )


def _stop_finder(chat: Chat, stop: Sequence[str]) -> Callable[[Sequence[int]], bool] | None:
    if not stop:
        return None
    return lambda token_ids: first_stop(chat.text(token_ids), stop) is not None
