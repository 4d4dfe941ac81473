"""The classifier two-sample test: can anything in the embeddings tell the rows from the reference's own samples?

A logistic regression learns to tell them apart on some prompts and is asked about others; its AUC there is 0.5 when
they are the same (Lopez-Paz and Oquab 2017, arXiv:1610.06545; AUC in place of accuracy, since the classes differ in
size). Whether it is more is found by exchanging labels within each prompt and learning anew every time, so the test
keeps its level whatever the embeddings are. It sees what a log-prob does not: subject, language, style.

Embeddings say above all what a text is about, which the prompt decides and rows and samples share. So each is taken
from the mean of its prompt, rows and samples together, which knows nothing of the labels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from prefkit.shift.data import Booleans, Floats, Integers
from prefkit.shift.distances import auc
from prefkit.shift.per_prompt import counted

Embedder: TypeAlias = Callable[[Sequence[str]], Floats]
"""Texts in, one vector each out, shape (texts, any number of dimensions)."""

STEPS = 6
RIDGE = 1.0


@dataclass(frozen=True, slots=True)
class ClassifierTest:
    """The test's result."""

    auc: float
    """On prompts that the classifier had not seen."""
    p_value: float
    """At least 1 / (permutations + 1)."""
    permutations: int


def texts_told_apart(
    embed: Embedder,
    texts: Sequence[str],
    prompts: Integers,
    samples: Sequence[str],
    sample_prompts: Integers,
    *,
    components: int = 16,
    permutations: int = 199,
    seed: int = 0,
) -> ClassifierTest:
    """Tests texts against samples of the same prompts; see `embeddings_told_apart`."""
    embedded = embed([*texts, *samples])
    own, theirs = embedded[: len(texts)], embedded[len(texts) :]
    return embeddings_told_apart(
        own, prompts, theirs, sample_prompts, components=components, permutations=permutations, seed=seed
    )


def embeddings_told_apart(
    embeddings: Floats,
    prompts: Integers,
    sample_embeddings: Floats,
    sample_prompts: Integers,
    *,
    components: int = 16,
    permutations: int = 199,
    seed: int = 0,
    folds: int = 3,
) -> ClassifierTest:
    """Tests rows against samples on their first principal components, cross-fitted over folds of prompts.

    The components are those of both together, so they know nothing of the labels.
    """
    generator = np.random.default_rng(seed)
    is_row = np.arange(len(embeddings) + len(sample_embeddings)) < len(embeddings)
    known, codes = np.unique(np.concatenate([prompts, sample_prompts]), return_inverse=True)
    inputs = _principal(_apart(np.concatenate([embeddings, sample_embeddings]), codes), components)
    fold = (generator.permutation(len(known)) % folds)[codes]
    value = _cross_fitted(inputs, is_row, fold)
    as_large = sum(
        _cross_fitted(inputs, _exchanged(is_row, codes, generator), fold) >= value for _ in range(permutations)
    )
    return ClassifierTest(value, (1 + as_large) / (1 + permutations), permutations)


def logistic(inputs: Floats, labels: Booleans) -> Floats:
    """Coefficients of a ridge logistic regression, by iteratively reweighted least squares (Newton's method)."""
    coefficients = np.zeros(inputs.shape[1])
    penalty = RIDGE * np.eye(inputs.shape[1])
    for _ in range(STEPS):
        expected = 1 / (1 + np.exp(-np.clip(inputs @ coefficients, -30, 30)))
        gradient = inputs.T @ (labels - expected) - penalty @ coefficients
        curvature = (inputs * (expected * (1 - expected))[:, None]).T @ inputs + penalty
        coefficients = coefficients + np.linalg.solve(curvature, gradient)
    return coefficients


def _cross_fitted(inputs: Floats, is_row: Booleans, fold: Integers) -> float:
    scores = np.empty(len(inputs))
    for held in np.unique(fold):
        learn = fold != held
        scores[~learn] = inputs[~learn] @ logistic(inputs[learn], is_row[learn])
    return auc(scores[is_row], scores[~is_row])


def _exchanged(is_row: Booleans, codes: Integers, generator: np.random.Generator) -> Booleans:
    """The labels of each prompt in a random order."""
    places = np.argsort(codes, kind="stable")
    shuffled = np.lexsort((generator.random(len(codes)), codes))
    labels = np.empty_like(is_row)
    labels[shuffled] = is_row[places]
    return labels


def _apart(embeddings: Floats, codes: Integers) -> Floats:
    """Each embedding less the mean of its prompt."""
    sums = np.zeros((codes.max() + 1, embeddings.shape[1]))
    np.add.at(sums, codes, embeddings)
    return embeddings - (sums / counted(codes)[:, None])[codes]


def _principal(embeddings: Floats, components: int) -> Floats:
    """Standardised scores on the first principal components, and a constant."""
    centred = embeddings - embeddings.mean(axis=0)
    variances, directions = np.linalg.eigh(centred.T @ centred / len(centred))
    kept = np.flatnonzero(variances > variances[-1] * 1e-9)[-components:]
    return np.column_stack([centred @ directions[:, kept] / np.sqrt(variances[kept]), np.ones(len(centred))])
