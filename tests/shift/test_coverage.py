import numpy as np
import pytest

from prefkit.shift.bootstrap import Bootstrap
from prefkit.shift.coverage import covered_mass, exact_coverage, text_coverage

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
