"""Could these rows be the reference's own samples? A test of a whole version.

Under the null hypothesis the rows of a prompt and the reference's samples of it are exchangeable: which of them are the
rows is a random draw. Three numbers of each completion are compared within its prompt: its standardised NLL per token
(location), the square of its distance from the prompt's mean (scale: too even or too wild), and the logarithm of its
length. Means and covariances of their sums under the draw are known exactly, so no permutation is carried out; summed
over prompts the sums are nearly normal, and their squared length is a chi-square statistic (Lepage 1971, for location
and scale; van Elteren 1960, for the strata).

Selected rows are not exchangeable with samples even when the reference wrote them: the chosen ones are its best, and
may well be its longest. Then the test says so.
"""

import math
from dataclasses import dataclass

import numpy as np

from prefkit.shift.data import Floats, Integers
from prefkit.shift.per_prompt import centred, counted, summed

PARTS = ("location", "scale", "length")


@dataclass(frozen=True, slots=True)
class ToldApart:
    """The test's result."""

    statistic: float
    degrees: int
    """How many of the three numbers vary within prompts."""
    p_value: float
    location: float
    scale: float
    length: float
    """Each part alone, as a standard normal score; positive where rows are less likely, more scattered, longer."""


def told_apart(
    residuals: Floats,
    tokens: Integers,
    prompts: Integers,
    sample_residuals: Floats,
    sample_tokens: Integers,
    sample_prompts: Integers,
) -> ToldApart:
    """Compares rows with samples of the same prompts; residuals are standardised for length.

    Prompts without rows or without samples do not count. With nothing to compare the p-value is 1.
    """
    is_row = np.arange(len(prompts) + len(sample_prompts)) < len(prompts)
    _, codes = np.unique(np.concatenate([prompts, sample_prompts]), return_inverse=True)
    location = centred(np.concatenate([residuals, sample_residuals]), codes)
    length = np.log(np.concatenate([tokens, sample_tokens]))
    features = np.column_stack([centred(part, codes) for part in (location, location**2, length)])
    counts, drawn = counted(codes), summed(is_row.astype(np.float64), codes)
    # Drawing m of n without replacement: the covariance of the sum is m (n - m) / n times that of the n, which has
    # n - 1 below the fraction.
    factor = drawn * (counts - drawn) / (counts * np.maximum(counts - 1, 1))
    total = features[is_row & (factor[codes] > 0)].sum(axis=0)
    covariance = (features * factor[codes][:, None]).T @ features
    spread = np.sqrt(np.diag(covariance))
    vary = spread > 1e-9
    scores = np.divide(total, spread, out=np.zeros(len(PARTS)), where=vary)
    statistic, degrees = _length(scores[vary], covariance[np.ix_(vary, vary)], spread[vary])
    return ToldApart(statistic, degrees, chi_square_tail(statistic, degrees), *(float(s) for s in scores))


def chi_square_tail(statistic: float, degrees: int) -> float:
    """Chance that a chi-square variable is at least this large; 1 for no degree of freedom."""
    half = statistic / 2
    tail, term = (math.erfc(math.sqrt(half)), math.sqrt(half)) if degrees % 2 else (0.0, 1.0)
    for k in range(degrees % 2, degrees, 2):
        tail += math.exp(-half) * term / math.gamma(k / 2 + 1)
        term *= half
    return tail if degrees else 1.0


def _length(scores: Floats, covariance: Floats, spread: Floats) -> tuple[float, int]:
    """Squared length of the scores under their correlation, and its rank."""
    if not len(scores):
        return 0.0, 0
    correlation = covariance / np.outer(spread, spread)
    inverse = np.linalg.pinv(correlation, rcond=1e-6, hermitian=True)
    return float(scores @ inverse @ scores), int(np.linalg.matrix_rank(correlation, tol=1e-6))
