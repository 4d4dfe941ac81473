"""Off-support: text that the reference itself would hardly ever write.

The reference's own 99 % range is split-conformal (Vovk et al. 2005; Lei et al. 2018, arXiv:1604.04173, algorithm 2):
what is typical is fitted on one half of the prompts, and the threshold is the quantile of the *other* half's samples,
so it holds whether or not the model of `typical` is right. Both halves take both parts (Vovk 2015, arXiv:1208.0806):
every sample, and every row, is judged by the fit of the half that its prompt does not belong to, and one threshold is
taken over all samples.

Off-support is one-sided: above the range. A completion below it is one that the reference finds *too* likely: repeated
text, or its own samples drawn at a low temperature. That is inside the support by any meaning of the word, so it is
counted on its own, at the same nominal share, and never gated.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from prefkit.errors import SourceError
from prefkit.shift.data import Booleans, Floats, Integers
from prefkit.shift.typical import Typical, fitted, known_residuals, surprise

NOMINAL = 0.01


@dataclass(frozen=True, slots=True)
class Tokens:
    """Completions as numbers: NLL per token in nats, length in tokens, prompt."""

    nll: Floats
    tokens: Integers
    prompts: Integers

    def where(self, chosen: Booleans) -> "Tokens":
        """Those that are chosen."""
        return Tokens(self.nll[chosen], self.tokens[chosen], self.prompts[chosen])


@dataclass(frozen=True, slots=True)
class OwnRange:
    """The reference's own range of surprise."""

    lower: float
    upper: float
    nominal: float
    """Share of the reference's own samples beyond either end."""
    samples: int
    """How many samples it was calibrated on."""

    def off_support(self, surprise: Floats) -> Booleans:
        """Rows above the range."""
        return surprise > self.upper

    def too_likely(self, surprise: Floats) -> Booleans:
        """Rows below the range."""
        return surprise < self.lower


@dataclass(frozen=True, slots=True)
class Surprises:
    """Rows and samples on one scale, and the range on it."""

    rows: Floats
    samples: Floats
    """Each from the prompt's other samples."""
    row_residuals: Floats
    sample_residuals: Floats
    """Standardised for length only; see `told_apart`."""
    own_range: OwnRange


def surprises(rows: Tokens, samples: Tokens, *, nominal: float = NOMINAL, seed: int = 0) -> Surprises:
    """Surprise of rows and of the reference's own samples, by the fit of the other half, and the calibrated range.

    The halves depend on the set of prompts and the seed alone. Raises SourceError when there are too few samples to
    tell a share of `nominal`, or samples of one prompt only.
    """
    least = int(np.ceil(1 / nominal)) - 1
    if len(samples.nll) < least or len(np.unique(samples.prompts)) < 2:
        raise SourceError(
            f"the reference has {len(samples.nll)} samples of {len(np.unique(samples.prompts))} prompts, expected "
            f"{least} of 2 at least to know its own {1 - nominal:.0%} range: draw more"
        )
    halves = _halves(rows.prompts, samples.prompts, seed)
    row_half, sample_half = halves(rows.prompts), halves(samples.prompts)
    by_row, by_sample = np.empty((2, len(rows.nll))), np.empty((2, len(samples.nll)))
    for half in (False, True):
        fit, these = samples.where(sample_half != half), samples.where(sample_half == half)
        model = fitted(fit.nll, fit.tokens, fit.prompts)
        known = known_residuals(model, these.nll, these.tokens, these.prompts)
        judged = rows.where(row_half == half)
        by_row[0, row_half == half] = surprise(model, judged.nll, judged.tokens, judged.prompts, known)
        by_sample[0, sample_half == half] = surprise(model, these.nll, these.tokens, these.prompts)
        by_row[1, row_half == half] = _standardised(model, judged)
        by_sample[1, sample_half == half] = _standardised(model, these)
    return Surprises(by_row[0], by_sample[0], by_row[1], by_sample[1], own_range(by_sample[0], nominal))


def own_range(samples: Floats, nominal: float = NOMINAL) -> OwnRange:
    """The conformal range of these values: a new one lies above with a chance of `nominal`, and below likewise.

    The ceil((n + 1)(1 - nominal))-th smallest of n values, and the same from the other end.
    """
    ordered = np.sort(samples)
    place = int(np.ceil((len(ordered) + 1) * (1 - nominal) - 1e-9))
    return OwnRange(float(ordered[-place]), float(ordered[place - 1]), nominal, len(ordered))


def _halves(rows: Integers, samples: Integers, seed: int) -> Callable[[Integers], Booleans]:
    """Which half a prompt belongs to. Prompts with samples are halved, and so are the rest."""
    known = np.unique(samples)
    rest = np.setdiff1d(rows, known)
    generator = np.random.default_rng(seed)
    order = np.concatenate([known, rest])
    half = np.concatenate([generator.permutation(len(known)) % 2, generator.permutation(len(rest)) % 2]) == 1
    place = np.argsort(order)
    return lambda prompts: half[place[np.searchsorted(order, prompts, sorter=place)]]


def _standardised(model: Typical, of: Tokens) -> Floats:
    return model.residuals(of.nll, of.tokens) / np.sqrt(model.noise(of.tokens))
