"""The end of every sync: does the engine now say what the new weights say?

The log-probs of a fixed completion are read token by token, each as the next token of the prompt and the completion so
far. The prompt is long enough to fill blocks of the prefix cache, and it is read once under the old weights first: so
an engine that kept a stale cache, a stale packed copy of a weight, or the old weights answers differently.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from prefkit.engines.vllm_asks import Answer, Ask, Engine, answered
from prefkit.errors import SyncError

SHORTEST_PROMPT = 200
"""Tokens. On a CPU vLLM caches blocks of 128 tokens: a shorter prompt may not fill one."""
TOLERANCE = {"float32": 1e-4, "float16": 0.1, "bfloat16": 0.5}
"""Largest difference of a log-prob from the float32 weights', by the engine's number format.

Measured on random models of 2 and 8 layers, on tokens as unlikely as e**-16: at most 6e-6, 0.07 and 0.42. A stale head
or cache is off by 1 to 4 there. So in half precision the probe shows gross errors only.
"""


@dataclass(frozen=True, slots=True)
class Probe:
    """A completion of a long prompt, and its log-probs under the weights that are sent."""

    prompt_ids: Sequence[int]
    completion_ids: Sequence[int]
    logprobs: Sequence[float]
    """Per token of the completion, at T = 1 over the full vocabulary."""

    def __post_init__(self) -> None:
        if len(self.prompt_ids) < SHORTEST_PROMPT or not self.completion_ids:
            raise SyncError(
                f"the probe has {len(self.prompt_ids)} prompt tokens and {len(self.completion_ids)} of a completion, "
                f"expected at least {SHORTEST_PROMPT} and 1: a shorter prompt does not show a stale prefix cache"
            )
        if len(self.logprobs) != len(self.completion_ids):
            raise SyncError(
                f"the probe has {len(self.logprobs)} log-probs for {len(self.completion_ids)} completion tokens, "
                f"expected one for each"
            )


def measured(engine: Engine, probe: Probe) -> list[float]:
    """The engine's log-probs of the probe's completion. Reads the prompt from the prefix cache where it is cached."""
    asks = [
        Ask(f"probe-{place}", [*probe.prompt_ids, *probe.completion_ids[:place]], seed=0, read_token=token)
        for place, token in enumerate(probe.completion_ids)
    ]
    logprobs: list[float] = []
    for id, answer in sorted(answered(engine, asks).items(), key=lambda item: int(item[0].removeprefix("probe-"))):
        if not isinstance(answer, Answer) or answer.read_logprob is None:
            raise SyncError(f"the sampler did not answer {id} of its weights' probe: {answer}; start it again")
        logprobs.append(answer.read_logprob)
    return logprobs


def require_agreement(probe: Probe, logprobs: Sequence[float], dtype: str) -> float:
    """The largest difference to the probe's own log-probs. Raises SyncError when it exceeds the format's tolerance."""
    differences = [abs(a - b) for a, b in zip(logprobs, probe.logprobs, strict=True)]
    difference = max(differences)
    if not all(d <= TOLERANCE[dtype] for d in differences):  # also when one is not a number
        raise SyncError(
            f"the sampler's log-probs differ by {difference:.2g} from those of the weights it was sent, expected at "
            f"most {TOLERANCE[dtype]:g} in {dtype}: nothing is sampled from it; sync again or start it again"
        )
    return difference
