"""What the reference's own completions of a prompt look like: their NLL per token, by length and prompt.

The NLL per token of a short completion scatters more than that of a long one, and completions of one prompt resemble
each other. A range that ignores this calls short completions strange and misses long ones that are. So it is modelled,
in three parts that the reference's own samples determine:

    x = (NLL per token)^(1/3) = m(n) + prompt + noise
    m(n) = c0 + c1 / n + c2 log n          the mean, by the number of tokens n
    prompt ~ variance `between`            what completions of one prompt share
    noise ~ variance within + token / n    what is a completion's own, and what averages out over its tokens

A sum of positive surprises is nearly gamma distributed, and the cube root of a gamma variable nearly normal (Wilson
and Hilferty 1931), so that one threshold serves short, skewed completions and long ones. The model need not be right
for the range to be calibrated, only for it to be sharp: see `support`.
"""

from dataclasses import dataclass

import numpy as np

from prefkit.shift.data import Floats, Integers
from prefkit.shift.per_prompt import centred, counted, summed

ROUNDS = 4
LEAST_VARIANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Typical:
    """The model, fitted. Variances are of the cube root of nats per token."""

    coefficients: Floats
    """c0, c1, c2."""
    shortest: int
    longest: int
    """Lengths outside are taken as the nearest one inside, for the mean."""
    between: float
    within: float
    token: float

    def residuals(self, nll: Floats, tokens: Integers) -> Floats:
        """What the length does not explain."""
        return _scaled(nll) - _basis(np.clip(tokens, self.shortest, self.longest)) @ self.coefficients

    def noise(self, tokens: Integers) -> Floats:
        """Variance of completions of one prompt, by length."""
        return np.maximum(self.within + self.token / tokens, LEAST_VARIANCE)


def fitted(nll: Floats, tokens: Integers, prompts: Integers) -> Typical:
    """Weighted least squares for the mean, moments of the residuals for the variances, in turn."""
    _, codes = np.unique(prompts, return_inverse=True)
    lengths = (int(tokens.min()), int(tokens.max()))
    model = Typical(np.zeros(3), *lengths, between=0.0, within=1.0, token=0.0)
    for _ in range(ROUNDS):
        weights = 1 / np.sqrt(model.between + model.noise(tokens))
        coefficients = _solved(_basis(tokens) * weights[:, None], _scaled(nll) * weights)
        residuals = _scaled(nll) - _basis(tokens) @ coefficients
        model = Typical(coefficients, *lengths, *_variances(residuals, tokens, codes))
    return model


def surprise(
    model: Typical, nll: Floats, tokens: Integers, prompts: Integers, samples: "Known | None" = None
) -> Floats:
    """How many standard deviations the NLL per token lies above what the reference writes at this length and prompt.

    The share of the prompt is predicted from the reference's own samples of it (best linear prediction, with its
    variance); without `samples`, each row is itself one of these samples and is predicted from the others.
    """
    residuals, noise = model.residuals(nll, tokens), model.noise(tokens)
    known = samples or known_residuals(model, nll, tokens, prompts)
    precision, weighted = known.of(prompts)
    if samples is None:
        precision, weighted = precision - 1 / noise, weighted - residuals / noise
    shrink = model.between / (1 + model.between * np.maximum(precision, 0.0))
    return (residuals - shrink * weighted) / np.sqrt(noise + shrink)


@dataclass(frozen=True, slots=True)
class Known:
    """What the reference's own samples say about each prompt."""

    prompts: Integers
    """Sorted."""
    precision: Floats
    """Sum of 1 / variance over the prompt's samples."""
    weighted: Floats
    """Sum of residual / variance."""

    def of(self, prompts: Integers) -> tuple[Floats, Floats]:
        """Precision and weighted sum of each of these prompts; zeros where there is no sample."""
        at = np.minimum(np.searchsorted(self.prompts, prompts), len(self.prompts) - 1)
        found = self.prompts[at] == prompts
        return np.where(found, self.precision[at], 0.0), np.where(found, self.weighted[at], 0.0)


def known_residuals(model: Typical, nll: Floats, tokens: Integers, prompts: Integers) -> Known:
    """Sums over the samples of each prompt."""
    known, codes = np.unique(prompts, return_inverse=True)
    residuals, noise = model.residuals(nll, tokens), model.noise(tokens)
    return Known(known, summed(1 / noise, codes), summed(residuals / noise, codes))


def _variances(residuals: Floats, tokens: Integers, codes: Integers) -> tuple[float, float, float]:
    """(between, within, token). With one sample per prompt all of it counts as noise."""
    counts = counted(codes)
    of = counts[codes]
    several = of > 1
    if not several.any():
        return 0.0, *_noise(residuals**2, np.column_stack([np.ones(len(tokens)), 1 / tokens]))
    apart = centred(residuals, codes)
    # A sample's squared distance from the mean of its n holds its own noise (1 - 2 / n) times, and all noise / n^2.
    mean_inverse = (summed(1 / tokens, codes) / counts)[codes]
    expected = np.column_stack([(of - 1) / of, (1 - 2 / of) / tokens + mean_inverse / of])
    within, token = _noise(apart[several] ** 2, expected[several])
    return max(0.0, float(np.mean(residuals**2 - within - token / tokens))), within, token


def _noise(squares: Floats, expected: Floats) -> tuple[float, float]:
    """The two factors, neither negative, with which `expected` fits the squares best, weighted by their size."""
    weights = np.ones(len(squares))
    both = np.zeros(2)
    for _ in range(ROUNDS):
        scaled, target = expected * weights[:, None], squares * weights
        both = _solved(scaled, target)
        if both.min() < 0:
            alone = scaled.T @ target / np.maximum((scaled**2).sum(axis=0), LEAST_VARIANCE)
            both = np.where(both < 0, 0.0, alone)
        weights = 1 / np.maximum(expected @ both, LEAST_VARIANCE)
    return float(both[0]), float(both[1])


def _solved(basis: Floats, target: Floats) -> Floats:
    """Least squares; the shortest solution where lengths are too alike for one."""
    return np.asarray(np.linalg.lstsq(basis, target)[0], np.float64)


def _basis(tokens: Integers) -> Floats:
    return np.column_stack([np.ones(len(tokens)), 1 / tokens, np.log(tokens)])


def _scaled(nll: Floats) -> Floats:
    return np.cbrt(np.maximum(nll, 0.0))  # rounding can make a certain token's log-prob slightly positive
