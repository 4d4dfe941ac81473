"""One forward pass: the log-probs of the tokens of a batch, and what a model can be asked for.

Only the hidden states that predict a completion's token meet the vocabulary, some at a time, so memory does not grow
with vocabulary times length. That takes a model whose logits are its output layer's and nothing more. Whether they are
is tried once on a few tokens: a model that scales or caps its logits, or has no such layer, gives its own logits for
one row at a time instead. Whether completions may share a prompt in a row is tried too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from transformers import PreTrainedModel

from prefkit.engines.logprobs_packing import Batch, Row, attention_mask, batch_of
from prefkit.errors import SourceError
from prefkit.shift.protocol import Trained

# Logits at once. With a vocabulary of 32,000 on a CPU, 2^20 are a third slower and 2^17 three times; more gain nothing.
LOGITS_AT_ONCE = {"cpu": 1 << 22, "cuda": 1 << 26}


@dataclass(frozen=True, slots=True)
class Abilities:
    """How a model may be asked."""

    projects: bool
    """Its logits are its output layer's."""
    shares: bool
    """It reads several completions after one prompt as if each stood there alone."""


@torch.inference_mode()
def token_logprobs(model: PreTrainedModel, batch: Batch, projects: bool) -> torch.Tensor:
    """The log-prob of every completion token of a batch, shape [N], float32; one row at a time if not `projects`."""
    inputs = {"input_ids": batch.tokens, "attention_mask": attention_mask(batch, model.dtype), "use_cache": False}
    if batch.shared:
        inputs["position_ids"] = batch.positions
    if projects:
        states = model.base_model(**inputs).last_hidden_state.flatten(0, 1)[batch.sources].to(model.dtype)
        to_logits = cast(torch.nn.Module, model.get_output_embeddings())
    else:
        states = model(**inputs, logits_to_keep=batch.sources).logits[0]
        to_logits = torch.nn.Identity()
    at_once = max(1, LOGITS_AT_ONCE.get(states.device.type, 1 << 24) // model.config.get_text_config().vocab_size)
    # Written in place: small results kept between the large ones would hold the heap open, by gigabytes on a CPU.
    logprobs = torch.empty(len(batch.targets), device=states.device)
    for start in range(0, len(logprobs), at_once):
        part = slice(start, start + at_once)
        logprobs[part] = _logprobs(to_logits(states[part]), batch.targets[part])
    return logprobs


def _logprobs(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return logits.float().log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)


@torch.inference_mode()
def abilities(model: PreTrainedModel, subject: str) -> Abilities:
    """Tries the model on a few tokens. Raises SourceError when a token's log-prob depends on those after it."""
    probe = _Probe.of(model)
    close = 1e-6 if model.dtype == torch.float32 else 1e-3
    logits, others = probe.logits(probe.first), probe.logits(probe.second)
    read = len(probe.prompt)
    if not _agree(logits[:read], others[:read], 1e-3):
        raise SourceError(
            f"{subject} is no causal language model: what it predicts depends on the tokens that come after; "
            "expected a model that generates text"
        )
    projected = probe.projected(probe.first)
    projects = projected is not None and _agree(projected, logits, close)
    return Abilities(projects, shares=_attends_to_everything(model) and probe.shares(projects))


def _agree(one: torch.Tensor, other: torch.Tensor, relative: float) -> bool:
    if one.shape != other.shape:
        return False
    return bool((one - other).abs().max() <= relative * other.abs().max())


def _attends_to_everything(model: PreTrainedModel) -> bool:
    """Whether every layer sees all tokens before: in a window, siblings would push the prompt out of sight."""
    config = model.config.get_text_config()
    layers = cast("Sequence[str] | None", getattr(config, "layer_types", None))
    if layers:
        return set(layers) == {"full_attention"}
    return not getattr(config, "sliding_window", None)


@dataclass(frozen=True, slots=True)
class _Probe:
    """A prompt and three completions, the first two of the same length, of tokens from all over the vocabulary."""

    model: PreTrainedModel
    prompt: Sequence[int]
    first: Sequence[int]
    second: Sequence[int]
    third: Sequence[int]

    @classmethod
    def of(cls, model: PreTrainedModel) -> "_Probe":
        size = model.config.get_text_config().vocab_size
        tokens = [(13 + 7919 * i) % size for i in range(21)]
        return cls(model, tokens[:5], tokens[5:11], tokens[11:17], tokens[17:])

    def logits(self, completion: Sequence[int]) -> torch.Tensor:
        """The model's own, of prompt and completion alone: shape [tokens, vocabulary]."""
        return self.model(input_ids=self._alone(completion), use_cache=False).logits[0].float()

    def projected(self, completion: Sequence[int]) -> torch.Tensor | None:
        """What the output layer makes of the hidden states; None when the model has no such parts."""
        body, head = self.model.base_model, self.model.get_output_embeddings()
        if body is self.model or head is None:
            return None
        states: object = getattr(body(input_ids=self._alone(completion), use_cache=False), "last_hidden_state", None)
        return head(states.to(self.model.dtype))[0].float() if isinstance(states, torch.Tensor) else None

    def shares(self, projects: bool) -> bool:
        """Whether a completion has the log-probs it has alone, and the same whatever stands beside it."""
        try:
            beside = [self._beside(sibling, projects) for sibling in (self.first, self.second)]
        except (RuntimeError, ValueError, TypeError, IndexError):
            return False  # models that cannot read such a mask each fail in their own way
        predicted = self.logits(self.third)[len(self.prompt) - 1 : -1]
        alone = _logprobs(predicted, torch.tensor(self.third, device=predicted.device))
        exact, rounded = (1e-5, 1e-4) if self.model.dtype == torch.float32 else (1e-2, 0.3)
        return bool((beside[0] - beside[1]).abs().max() <= exact and (beside[0] - alone).abs().max() <= rounded)

    def _beside(self, sibling: Sequence[int], projects: bool) -> torch.Tensor:
        """The log-probs of the third completion after a sibling, which has the same length each time."""
        completions = [Trained(b"", self.prompt, tokens, cut=0) for tokens in (sibling, self.third)]
        batch = batch_of([Row(self.prompt, completions)], self.model.device)
        return token_logprobs(self.model, batch, projects)[len(sibling) :]

    def _alone(self, completion: Sequence[int]) -> torch.Tensor:
        return torch.tensor([[*self.prompt, *completion]], device=self.model.device)
