import numpy as np
import pytest

from prefkit.shift.support import surprises
from prefkit.shift.told_apart import chi_square_tail, told_apart
from tests.shift.builders import Reference


def p_value(seed: int, prompts: int = 100, **other: float) -> float:
    """Of two rows per prompt against four samples."""
    reference = Reference.of(prompts, seed)
    rows, samples = reference.draw(2, seed + 1000, **other), reference.draw(4, seed + 2000)
    found = surprises(rows, samples, seed=seed)
    of_rows, of_samples = (found.row_residuals, rows), (found.sample_residuals, samples)
    return told_apart(of_rows[0], rows.tokens, rows.prompts, of_samples[0], samples.tokens, samples.prompts).p_value


@pytest.mark.parametrize(
    ("statistic", "degrees", "tail"),
    # Critical values of the chi-square distribution at 5 %, as in any table
    [(3.841, 1, 0.05), (5.991, 2, 0.05), (7.815, 3, 0.05), (9.488, 4, 0.05), (0.0, 3, 1.0)],
)
def test_tail_is_that_of_the_tables(statistic: float, degrees: int, tail: float) -> None:
    assert chi_square_tail(statistic, degrees) == pytest.approx(tail, abs=1e-4)


def test_location_of_one_row_against_one_sample_in_each_of_four_prompts_is_worked_by_hand() -> None:
    # In every prompt the row is 2 above the sample: centred +1 and -1. Drawing one of the two has mean 0 and variance
    # 1, so the sum 4 has variance 4: score 2, statistic 4. Squares and lengths are equal and say nothing.
    ones, prompts = np.ones(4, np.int64), np.arange(4)
    found = told_apart(np.full(4, 2.0), ones, prompts, np.zeros(4), ones, prompts)
    assert (found.location, found.scale, found.length, found.degrees) == (pytest.approx(2), 0, 0, 1)
    assert (found.statistic, found.p_value) == (pytest.approx(4), pytest.approx(0.0455, abs=1e-4))


def test_rows_of_prompts_without_samples_do_not_count() -> None:
    ones = np.ones(2, np.int64)
    found = told_apart(np.array([9.0, 9]), ones, np.array([0, 1]), np.zeros(2), ones, np.array([2, 3]))
    assert (found.degrees, found.p_value) == (0, 1.0)


def test_references_own_samples_are_told_apart_one_time_in_twenty() -> None:
    rejected = np.mean([p_value(seed) < 0.05 for seed in range(200)])
    assert 0.02 <= rejected <= 0.09


def test_two_hundred_rows_of_a_slightly_unlikelier_policy_are_told_apart() -> None:
    assert np.mean([p_value(seed, unlikelier=1.1) < 0.05 for seed in range(20)]) >= 0.9


def test_two_hundred_longer_rows_are_told_apart() -> None:
    assert np.mean([p_value(seed, longer=1.3) < 0.05 for seed in range(20)]) >= 0.9
