"""What is sampled from: the policy's log-probs after temperature, top-k and top-p, in that order, renormalised."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Distribution:
    """How logits become the distribution that a token is drawn from."""

    temperature: float
    top_p: float
    top_k: int | None

    def logprobs(self, logits: torch.Tensor) -> torch.Tensor:
        """Log-probs of shape [rows, vocabulary], float32; minus infinity for tokens that cannot be drawn.

        At temperature 0 all probability lies on the most likely token (the first of equals).
        """
        if self.temperature == 0:
            certain = torch.full_like(logits, -torch.inf, dtype=torch.float32)
            return certain.scatter_(-1, logits.argmax(-1, keepdim=True), 0.0)
        logprobs = (logits.float() / self.temperature).log_softmax(-1)
        if self.top_k is not None and self.top_k < logprobs.shape[-1]:
            logprobs = _top_k(logprobs, self.top_k)
        if self.top_p < 1:
            logprobs = _top_p(logprobs, self.top_p)
        return logprobs


def _top_k(logprobs: torch.Tensor, k: int) -> torch.Tensor:
    smallest = logprobs.topk(k, dim=-1).values[:, -1:]
    return logprobs.masked_fill(logprobs < smallest, -torch.inf).log_softmax(-1)


def _top_p(logprobs: torch.Tensor, p: float) -> torch.Tensor:
    """The smallest set of tokens that reaches probability p: a token stays while those before it fall short of p."""
    ordered, order = logprobs.sort(dim=-1, descending=True, stable=True)
    probabilities = ordered.exp()
    cut = (probabilities.cumsum(-1) - probabilities) >= p
    return logprobs.masked_fill(cut.scatter(-1, order, cut), -torch.inf).log_softmax(-1)
