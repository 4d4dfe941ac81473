"""How far the policy that sampled a completion was from the reference: sequence KL, and what weights could repair.

With q the behaviour policy, p the reference and r = p / q of a whole completion that q sampled, the KL from q to p is
the mean of log (1 / r). Schulman 2020 (joschu.net/blog/kl-approx.html) gives three ways to average, in nats per
completion:

    k1 = -log r               unbiased; single rows may be negative
    k2 = (log r)^2 / 2        biased, small spread while q and p are near
    k3 = (r - 1) - log r      unbiased, never negative; r is enormous for far completions, and then so is its spread

They estimate the divergence of a policy only over all it sampled: chosen ones are a selection, and say how far the
selected text is.
"""

import numpy as np

from prefkit.shift.data import Floats

STEEPEST = 300.0
"""Log ratios above this count as this where they are exponentiated: exp(2 x 300) is still a number."""


def log_ratios(logps: Floats, sampling_logps: Floats) -> Floats:
    """The log r of each completion, in nats: under the reference less under the behaviour policy. NaN where unknown."""
    return logps - sampling_logps


def k1(log_ratio: Floats) -> Floats:
    """Schulman's k1 of each completion, in nats."""
    return -log_ratio


def k2(log_ratio: Floats) -> Floats:
    """Schulman's k2 of each completion, in nats; never negative."""
    return log_ratio**2 / 2


def k3(log_ratio: Floats) -> Floats:
    """Schulman's k3 of each completion, in nats; never negative."""
    return np.expm1(np.minimum(log_ratio, STEEPEST)) - log_ratio


def effective_sample_share(log_ratio: Floats) -> float:
    """Effective sample size of the importance weights r, as a share of the completions: from 1 / n to 1.

    (sum r)^2 / (n sum r^2), Kong 1992: what share of as many samples of the reference itself the rows are worth when
    they are weighted to stand for it. NaN when no ratio is known.
    """
    weights = scaled_weights(log_ratio)
    weights = weights[~np.isnan(weights)]
    return float(weights.mean() ** 2 / (weights**2).mean()) if len(weights) else float("nan")


def scaled_weights(log_ratio: Floats) -> Floats:
    """Importance weights as a share of the largest, for sums of weights and of their squares; NaN where unknown."""
    known = ~np.isnan(log_ratio)
    return np.exp(log_ratio - log_ratio[known].max()) if known.any() else log_ratio
