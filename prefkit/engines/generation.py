"""Autoregressive generation of one batch of draws, with a key-value cache and each draw's own noise.

Prompts are padded on the left and positions count from a prompt's own first token, so that a draw does not see the
padding. A draw that ends stops being recorded at once; its row leaves the batch when half of the rows have ended.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import isfinite

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from prefkit.engines.distribution import Distribution
from prefkit.engines.noise import gumbel_noise
from prefkit.identity import Words
from prefkit.sampling.protocol import FinishReason


@dataclass(slots=True)
class Draw:
    """The tokens of one draw as they grow; `finish_reason` is None while it runs."""

    token_ids: list[int] = field(default_factory=list[int])
    sampling_logprobs: list[float] = field(default_factory=list[float])
    behavior_logprobs: list[float] = field(default_factory=list[float])
    finish_reason: FinishReason | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """When a draw ends. `stopped` looks at the tokens so far and finds a stop string; None when there are none."""

    eos_ids: frozenset[int]
    max_new_tokens: int
    stopped: Callable[[Sequence[int]], bool] | None = None

    def reason(self, token_ids: Sequence[int]) -> FinishReason | None:
        """Why a draw with these tokens is over, or None."""
        if token_ids[-1] in self.eos_ids or (self.stopped is not None and self.stopped(token_ids)):
            return FinishReason.STOP
        return FinishReason.LENGTH if len(token_ids) == self.max_new_tokens else None


@torch.inference_mode()
def generate(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], keys: Words, distribution: Distribution, ending: Ending
) -> list[Draw]:
    """One finished draw per prompt, in order. `keys` hold the noise keys of the draws, shape [prompts, 3]."""
    draws = [Draw() for _ in prompts]
    rows = list(range(len(prompts)))
    context = _Context(model, prompts)
    logits = context.prefill()
    for step in range(ending.max_new_tokens):
        tokens = _extend(draws, rows, logits, gumbel_keys=keys[rows], step=step, distribution=distribution)
        for row in rows:
            if draws[row].finish_reason is None:
                draws[row].finish_reason = ending.reason(draws[row].token_ids)
        running = [place for place, row in enumerate(rows) if draws[row].finish_reason is None]
        if not running:
            break
        if len(running) <= len(rows) // 2:
            rows = [rows[place] for place in running]
            tokens = context.keep(running, tokens)
        logits = context.advance(tokens)
    return draws


def read_alone(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], draws: Sequence[Draw], distribution: Distribution
) -> None:
    """Replaces the log-probs of finished draws by those of a pass over each alone, without padding or batch mates.

    Draws of the same tokens share their pass.
    """
    seen: dict[tuple[tuple[int, ...], tuple[int, ...]], tuple[list[float], list[float]]] = {}
    for prompt, draw in zip(prompts, draws, strict=True):
        tokens = tuple(prompt), tuple(draw.token_ids)
        if tokens not in seen:
            seen[tokens] = _both_logprobs(model, *tokens, distribution)
        sampling, behavior = seen[tokens]
        # A token on the very edge of top-k or top-p may fall outside in this pass; it was drawn: it had a probability.
        draw.sampling_logprobs = [
            a if isfinite(a) else b for a, b in zip(sampling, draw.sampling_logprobs, strict=True)
        ]
        draw.behavior_logprobs = list(behavior)


@torch.inference_mode()
def _both_logprobs(
    model: PreTrainedModel, prompt: Sequence[int], completion: Sequence[int], distribution: Distribution
) -> tuple[list[float], list[float]]:
    logits, taken = read(model, prompt, completion)
    sampling = distribution.logprobs(logits).gather(-1, taken).squeeze(-1).tolist()
    return sampling, behavior_logprobs(logits, taken)


@torch.inference_mode()
def read(model: PreTrainedModel, prompt: Sequence[int], completion: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """What predicts each token of a completion, shape [tokens, vocabulary], and the tokens, shape [tokens, 1]."""
    tokens = torch.tensor([[*prompt, *completion]], device=model.device)
    logits = model(input_ids=tokens, use_cache=False, logits_to_keep=len(completion) + 1).logits[0, :-1]
    return logits, tokens[0, len(prompt) :, None]


def behavior_logprobs(logits: torch.Tensor, taken: torch.Tensor) -> list[float]:
    """Log-probs of tokens of shape [tokens, 1], at T = 1 over the full vocabulary."""
    return logits.float().log_softmax(-1).gather(-1, taken).squeeze(-1).tolist()


def _extend(
    draws: Sequence[Draw],
    rows: Sequence[int],
    logits: torch.Tensor,
    *,
    gumbel_keys: Words,
    step: int,
    distribution: Distribution,
) -> torch.Tensor:
    """Draws the next token of every row and records it for the draws that still run. Returns tokens, shape [rows]."""
    sampling = distribution.logprobs(logits)
    if distribution.temperature == 0:
        tokens = sampling.argmax(-1)
    else:
        tokens = (sampling + gumbel_noise(gumbel_keys, step, logits.shape[-1], logits.device)).argmax(-1)
    taken = tokens[:, None]
    columns = sampling.gather(-1, taken).squeeze(-1).tolist(), behavior_logprobs(logits, taken)
    for row, token, sampling_logprob, behavior_logprob in zip(rows, tokens.tolist(), *columns, strict=True):
        draw = draws[row]
        if draw.finish_reason is None:
            draw.token_ids.append(token)
            draw.sampling_logprobs.append(sampling_logprob)
            draw.behavior_logprobs.append(behavior_logprob)
    return tokens


class _Context:
    """What the model has read so far: the cache, the attention mask and the position of every row."""

    def __init__(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> None:
        longest = max(len(p) for p in prompts)
        self._model = model
        # The value of padding is never read: it is masked.
        self._tokens = torch.tensor([[0] * (longest - len(p)) + list(p) for p in prompts], device=model.device)
        self._mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=model.device)
        self._positions = torch.tensor([len(p) for p in prompts], device=model.device)
        self._cache: Cache | None = None

    def prefill(self) -> torch.Tensor:
        """Logits after the prompts, shape [rows, vocabulary]."""
        return self._forward(self._tokens, (self._mask.cumsum(-1) - 1).clamp(min=0))

    def advance(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits after one more token per row, shape [rows, vocabulary]."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=-1)
        logits = self._forward(tokens[:, None], self._positions[:, None])
        self._positions = self._positions + 1
        return logits

    def keep(self, places: Sequence[int], tokens: torch.Tensor) -> torch.Tensor:
        """Drops all rows but these. Returns their tokens."""
        index = torch.tensor(places, device=tokens.device)
        self._mask, self._positions = self._mask[index], self._positions[index]
        if self._cache is not None:
            self._cache.batch_select_indices(index)
        return tokens[index]

    def _forward(self, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        output = self._model(
            input_ids=tokens,
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._cache = output.past_key_values
        return output.logits[:, -1]
