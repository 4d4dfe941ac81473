import numpy as np
import polars as pl
import pytest

from prefkit.shift.bootstrap import Bootstrap
from prefkit.shift.coverage import answer_coverage, covered_mass, exact_coverage, text_coverage

BOOTSTRAP = Bootstrap(resamples=300)
PROBABILITIES = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
COVERED = np.array([[True, False, True], [True, True, False]])


def test_covered_mass_is_the_sum_over_covered_responses() -> None:
    assert covered_mass(PROBABILITIES, COVERED).tolist() == [pytest.approx(0.7), pytest.approx(0.2)]
    assert exact_coverage(PROBABILITIES, COVERED, BOOTSTRAP).value == pytest.approx(0.45)


def test_share_of_matching_samples_estimates_the_exact_coverage() -> None:
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(6), 300)
    covered = generator.random((300, 6)) < 0.4
    drawn = (generator.random((300, 8, 1)) > np.cumsum(probabilities, axis=1)[:, None]).sum(axis=2)
    matched = np.take_along_axis(covered, drawn, axis=1).ravel()
    found = text_coverage(matched, np.zeros(2400, bool), np.repeat(np.arange(300), 8), BOOTSTRAP)
    assert found.share.low <= covered_mass(probabilities, covered).mean() <= found.share.high
    assert found.informative


def test_two_versions_that_resampling_cannot_tell_apart_are_not_informative() -> None:
    generator, prompts = np.random.default_rng(0), np.repeat(np.arange(100), 4)
    found = text_coverage(generator.random(400) < 0.05, generator.random(400) < 0.05, prompts, BOOTSTRAP)
    assert not found.informative
    assert found.words.startswith("not informative")


def test_no_match_anywhere_is_not_informative() -> None:
    none = np.zeros(40, bool)
    assert not text_coverage(none, none, np.repeat(np.arange(10), 4), BOOTSTRAP).informative


def test_samples_count_as_covered_by_an_equal_answer_to_the_same_prompt() -> None:
    # Prompt 0: 4 is answered by the version, 5 by prompt 1 only, 7 by nobody. Prompt 2 has no row.
    rows = texts((0, "So the answer is 4."), (0, "The answer is 6."), (1, "The answer is 5."))
    samples = texts((0, "It is 4: the answer is 4."), (0, "The answer is 5."), (0, "The answer is 7."), (2, "4"))
    assert answer_coverage(rows, samples, BOOTSTRAP).share.value == pytest.approx(1 / 4)
    # With the pairs of two prompts exchanged, only the 5 of prompt 0 is answered.
    assert answer_coverage(rows, samples, BOOTSTRAP).other.value == pytest.approx(1 / 4)


def test_coverage_by_answers_of_one_policy_is_informative() -> None:
    rows = texts(*((prompt, f"The answer is {prompt}.") for prompt in range(60)))
    samples = texts(*((prompt, f"I say: the answer is {prompt + n}.") for prompt in range(60) for n in range(2)))
    found = answer_coverage(rows, samples, BOOTSTRAP)
    assert (found.share.value, found.informative) == (0.5, True)


def test_coverage_of_long_texts_that_all_differ_is_not_informative() -> None:
    rows = texts(*((prompt, f"One story, number {prompt}") for prompt in range(40)))
    samples = texts(*((prompt, f"Another story, number {prompt}") for prompt in range(40)))
    assert answer_coverage(rows, samples, BOOTSTRAP).words.startswith("not informative: 0.0%")


def test_coverage_does_not_depend_on_the_order_of_rows_and_samples() -> None:
    generator = np.random.default_rng(0)
    rows = texts(*((prompt, f"The answer is {generator.integers(4)}.") for prompt in range(50)))
    samples = texts(*((prompt, f"The answer is {generator.integers(4)}.") for prompt in range(50) for _ in range(3)))
    mixed = rows.sample(fraction=1, shuffle=True, seed=1), samples.sample(fraction=1, shuffle=True, seed=2)
    assert answer_coverage(rows, samples, BOOTSTRAP) == answer_coverage(*mixed, BOOTSTRAP)


def texts(*lines: tuple[int, str]) -> pl.DataFrame:
    return pl.DataFrame(lines, {"prompt": pl.Int64, "text": pl.String}, orient="row")
