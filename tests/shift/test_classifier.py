import zlib
from collections.abc import Sequence

import numpy as np
import pytest

from prefkit.shift.classifier import embeddings_told_apart, logistic, texts_told_apart

PROMPTS = np.repeat(np.arange(60), 2)


def embeddings(seed: int, moved: float = 0.0) -> np.ndarray:
    """Two per prompt, which resemble each other, in 40 dimensions; `moved` along one of them."""
    generator = np.random.default_rng(seed)
    subject = np.repeat(np.random.default_rng(99).normal(size=(60, 40)), 2, axis=0)
    return subject + generator.normal(size=(120, 40)) + moved * np.eye(40)[3]


def bag_of_words(texts: Sequence[str]) -> np.ndarray:
    counts = np.zeros((len(texts), 32))
    for line, text in enumerate(texts):
        for word in text.split():
            counts[line, zlib.crc32(word.encode()) % 32] += 1
    return counts


def test_logistic_of_a_coin_is_the_log_odds_shrunk_by_the_ridge() -> None:
    # A constant of 1, 300 of 400 true: where 300 - 400 s(w) = w, w is a little below log 3 = 1.0986
    (found,) = logistic(np.ones((400, 1)), np.arange(400) < 300)
    assert 300 - 400 / (1 + np.exp(-found)) == pytest.approx(found, abs=1e-9)
    assert 1.08 < found < np.log(3)


def test_moved_embeddings_are_told_apart() -> None:
    found = embeddings_told_apart(
        embeddings(1, moved=2.5), PROMPTS, embeddings(2), PROMPTS, components=40, permutations=39
    )
    assert found.auc > 0.8
    assert found.p_value == 1 / 40


def test_embeddings_alike_are_rarely_told_apart() -> None:
    found = [
        embeddings_told_apart(
            embeddings(2 * seed), PROMPTS, embeddings(2 * seed + 1), PROMPTS, components=4, permutations=19, seed=seed
        )
        for seed in range(20)
    ]
    assert sum(test.p_value <= 0.05 for test in found) <= 4
    assert np.mean([test.auc for test in found]) == pytest.approx(0.5, abs=0.04)


def test_what_the_prompt_decides_does_not_drown_what_the_writer_does() -> None:
    subject = 10 * np.repeat(np.random.default_rng(99).normal(size=(60, 40)), 2, axis=0)
    found = embeddings_told_apart(
        embeddings(1, moved=1.5) + subject, PROMPTS, embeddings(2) + subject, PROMPTS, components=40, permutations=39
    )
    assert found.auc > 0.7
    assert found.p_value == 1 / 40


def test_any_callable_embeds() -> None:
    own = [f"the sum of {n} and {n + 1} is {2 * n + 1}" for n in range(40)]
    other = [f"certainly ! here you go : {2 * n + 1}" for n in range(40)]
    found = texts_told_apart(bag_of_words, other, np.arange(40), own, np.arange(40), permutations=19)
    assert (found.auc, found.p_value) == (pytest.approx(1, abs=0.01), 0.05)
