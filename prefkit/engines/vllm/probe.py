"""What vLLM says of the text that proves a sync.

The log-probs of its completion are read token by token, each as the next token of the prompt and the completion so
far. The prompt is long enough to fill blocks of the prefix cache, and it is read once under the old weights first: so
an engine that kept a stale cache, a stale packed copy of a weight, or the old weights answers differently.
"""

from prefkit.engines.vllm.asks import Answer, Ask, Engine, answered
from prefkit.errors import SyncError
from prefkit.sampling.weights import Logprobed

SHORTEST_PROMPT = 200
"""Tokens. On a CPU vLLM caches blocks of 128 tokens: a shorter prompt may not fill one."""


def measured(engine: Engine, probe: Logprobed) -> list[float]:
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
