"""The end of every sync: does whoever was sent weights now say what they say?

The learner scores a fixed text under its weights, whoever took them scores it too, and the two must agree.
"""

from collections.abc import Collection, Sequence
from math import isfinite

import torch
from transformers import PreTrainedModel

from prefkit.engines.generation import behavior_logprobs, read
from prefkit.errors import SyncError
from prefkit.sampling.weights import Logprobed

TOLERANCE = {"float32": 1e-4, "float16": 0.1, "bfloat16": 0.5}
"""Largest difference of a log-prob from the float32 weights', by number format.

Measured with vLLM on random models of 2 and 8 layers, on tokens as unlikely as e**-16: at most 6e-6, 0.07 and 0.42. A
stale head or cache is off by 1 to 4 there. So in half precision the probe shows gross errors only.
"""


def require_probe(probe: Logprobed, context: int | None, shortest_prompt: int = 1) -> Logprobed:
    """The probe, if it can show anything. Raises SyncError for one that is too short, too long or not a learner's.

    `context` is how many tokens the model can read, None when it does not say.
    """
    prompt, completion = len(probe.prompt_ids), len(probe.completion_ids)
    if prompt < shortest_prompt or not completion:
        raise SyncError(
            f"the probe has {prompt} prompt tokens and {completion} of a completion, expected at least "
            f"{shortest_prompt} and 1: a shorter one does not show every mistake"
        )
    if context is not None and prompt + completion > context:
        raise SyncError(
            f"the probe has {prompt + completion} tokens, expected at most the {context} that the model reads"
        )
    if len(probe.logprobs) != completion or not all(map(isfinite, probe.logprobs)):
        raise SyncError(
            f"the probe has {sum(map(isfinite, probe.logprobs))} finite log-probs for {completion} completion tokens, "
            f"expected one for each: the learner's weights are not those of a working model"
        )
    return probe


def require_agreement(probe: Logprobed, logprobs: Sequence[float], dtype: str, subject: str = "sampler") -> float:
    """The largest difference to the probe's own log-probs. Raises SyncError when it exceeds the format's tolerance.

    `subject` is what the message calls whoever gave the `logprobs`.
    """
    differences = [abs(a - b) for a, b in zip(logprobs, probe.logprobs, strict=True)]
    difference = max(differences)
    if not all(d <= TOLERANCE[dtype] for d in differences):  # also when one is not a number
        raise SyncError(
            f"the {subject}'s log-probs differ by {difference:.2g} from those of the weights it was sent, expected at "
            f"most {TOLERANCE[dtype]:g} in {dtype}: it is not used until a sync succeeds; sync again or start it again"
        )
    return difference


def coarsest(dtype: str, weights: Collection[torch.Tensor]) -> str:
    """The least exact number format between the learner's weights and those of an engine in `dtype`."""
    formats = {str(weight.dtype).removeprefix("torch.") for weight in weights}
    return max({dtype, *formats} & TOLERANCE.keys(), key=TOLERANCE.__getitem__)


def probed(model: PreTrainedModel, probe: Logprobed) -> list[float]:
    """The log-probs that a model in this process gives for the probe's completion."""
    return behavior_logprobs(*read(model, probe.prompt_ids, probe.completion_ids))
