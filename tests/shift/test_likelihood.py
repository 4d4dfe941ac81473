import numpy as np
import pytest

from prefkit.shift.likelihood import nll_gap, nll_per_token


def test_nll_per_token_is_minus_the_sum_over_the_tokens() -> None:
    assert nll_per_token(np.array([-6.0, -1.0]), np.array([4, 1])).tolist() == [1.5, 1.0]


def test_gap_is_to_the_mean_of_the_samples_of_the_same_prompt() -> None:
    # prompt 3: samples 1 and 2, mean 1.5; prompt 5: sample 4
    gap = nll_gap(np.array([2.0, 2.0]), np.array([3, 5]), np.array([1.0, 4.0, 2.0]), np.array([3, 5, 3]))
    assert gap.tolist() == [pytest.approx(0.5), pytest.approx(-2.0)]


def test_gap_without_a_sample_of_the_prompt_is_unknown() -> None:
    assert np.isnan(nll_gap(np.array([2.0, 2.0]), np.array([1, 9]), np.array([1.0]), np.array([4]))).all()
