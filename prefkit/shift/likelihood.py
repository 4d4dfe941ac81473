"""How likely the reference finds a completion, per token, and how far that is from its own completions.

Units are nats per token. Sums over a completion would mostly say how long it is; dividing by the tokens is the length
normalisation of SimPO (Meng et al. 2024, arXiv:2405.14734, section 2.2). The reference's own samples have a mean of its
entropy rate on these prompts, which is what a completion is measured against: not zero.
"""

import numpy as np

from prefkit.shift.data import Floats, Integers
from prefkit.shift.per_prompt import counted, summed


def nll_per_token(logps: Floats, tokens: Integers) -> Floats:
    """Length-normalised negative log-likelihood, -logps / tokens. `tokens` are at least 1."""
    return -logps / tokens


def nll_gap(nll: Floats, prompts: Integers, sample_nll: Floats, sample_prompts: Integers) -> Floats:
    """Each completion's NLL per token less the mean over the reference's own samples of the same prompt.

    NaN where the reference has no sample of the prompt. The mean over rows compares like with like: neither hard
    prompts nor prompts with many rows weigh on one side alone.
    """
    known, codes = np.unique(sample_prompts, return_inverse=True)
    means = summed(sample_nll, codes) / counted(codes)
    at = np.minimum(np.searchsorted(known, prompts), len(known) - 1)
    return np.where(known[at] == prompts, nll - means[at], np.nan)
