"""How far the policy is from the reference on the rows it is trained on.

Were the completions y drawn from the policy pi as it is now, the mean of k1 or of k3 would estimate KL(pi || reference)
(Schulman 2020, "Approximating KL divergence"). They are not: a pair is the best and the worst of a group, was sampled
up to `sync_period - 1` steps earlier and at the sampler's temperature, or is of a version that others wrote. To correct
for that, the policy would have to read all completions that were drawn, and training reads only pairs. So these are
distances on the rows, named after them; `prefkit eval` estimates the divergence itself.
"""

from collections.abc import Callable, Mapping

import torch

K1, K3 = "log_ratio/k1", "log_ratio/k3"


class LogRatios:
    """Hears what the policy says of each batch, by a forward hook, and adds up until the metrics are taken."""

    def __init__(self) -> None:
        self._logprobs: torch.Tensor | None = None
        self._ratios: list[torch.Tensor] = []

    def hear(self, module: torch.nn.Module, given: object, outputs: object) -> None:
        """A forward hook: keeps the log-probs of TRL's fused language model head, where it gave some."""
        if isinstance(logprobs := getattr(outputs, "log_probs", None), torch.Tensor):
            self._logprobs = logprobs.detach()

    def add(self, inputs: Mapping[str, torch.Tensor], gather: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """The batch that was heard last; `gather` joins those of all ranks."""
        if self._logprobs is not None:
            self._ratios.append(gather(log_ratios(self._logprobs, inputs)))
            self._logprobs = None

    def take(self) -> dict[str, float]:
        """k1 and k3 over all completions since the last time; empty without any."""
        ratios, self._ratios = self._ratios, []
        return k1_and_k3(torch.cat(ratios)) if ratios else {}


def log_ratios(logprobs: torch.Tensor, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Log pi(y|x) - log reference(y|x) in nats, of all chosen completions of a batch and then of all rejected ones.

    `logprobs` are the policy's, per token and 0 outside of the completions; `inputs` is what TRL's collator gives.
    """
    reference = torch.cat([inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]])
    # Adapters that are prompts stand before the tokens.
    tokens = inputs["completion_mask"].shape[1] - 1
    return logprobs[:, -tokens:].float().sum(1) - reference


def k1_and_k3(ratios: torch.Tensor) -> dict[str, float]:
    """The means of r and of exp(-r) - 1 + r, in nats per completion; the second is never negative, and may overflow."""
    ratios = ratios.double()
    return {K1: ratios.mean().item(), K3: (torch.expm1(-ratios) + ratios).mean().item()}
