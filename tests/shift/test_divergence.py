import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.shift.divergence import STEEPEST, effective_sample_share, k1, k2, k3, log_ratios

RATIOS = st.lists(st.floats(-500, STEEPEST), min_size=1).map(np.array)


def test_estimators_of_a_completion_twice_as_likely_under_the_behaviour_policy() -> None:
    # r = 1/2: -log r = 0.6931, (log r)^2 / 2 = 0.2402, (r - 1) - log r = 0.1931
    ratio = log_ratios(np.array([-3 - math.log(2)]), np.array([-3.0]))
    assert k1(ratio)[0] == pytest.approx(0.6931, abs=1e-4)
    assert k2(ratio)[0] == pytest.approx(0.2402, abs=1e-4)
    assert k3(ratio)[0] == pytest.approx(0.1931, abs=1e-4)


def test_mean_of_k1_and_of_k3_is_the_exact_divergence_where_all_responses_are_known() -> None:
    # q = (1/2, 1/4, 1/4), p = (1/4, 1/4, 1/2): KL(q, p) = log(2) / 2 - log(2) / 4 = 0.1733
    behavior, reference = np.array([0.5, 0.25, 0.25]), np.array([0.25, 0.25, 0.5])
    ratio = log_ratios(np.log(reference), np.log(behavior))
    assert behavior @ k1(ratio) == pytest.approx(math.log(2) / 4)
    assert behavior @ k3(ratio) == pytest.approx(math.log(2) / 4)


@given(ratio=RATIOS)
def test_k2_and_k3_are_never_negative(ratio: np.ndarray) -> None:
    assert (k2(ratio) >= 0).all()
    assert (k3(ratio) >= -1e-12 * np.abs(ratio)).all()


def test_k3_of_an_impossible_ratio_is_still_a_number_whose_square_is_one() -> None:
    assert np.isfinite(k3(np.array([5000.0])) ** 2).all()


def test_effective_sample_of_equal_weights_is_all_and_of_one_giant_a_single_row() -> None:
    assert effective_sample_share(np.full(8, -700.0)) == pytest.approx(1)
    assert effective_sample_share(np.array([0.0, -800, -800, -800])) == pytest.approx(1 / 4)


def test_effective_sample_of_weights_one_and_three() -> None:
    # (1 + 3)^2 / (2 (1 + 9)) = 0.8
    assert effective_sample_share(np.log(np.array([1.0, 3.0]))) == pytest.approx(0.8)


@given(ratio=RATIOS)
def test_effective_sample_lies_between_one_row_and_all(ratio: np.ndarray) -> None:
    assert 1 / len(ratio) - 1e-9 <= effective_sample_share(ratio) <= 1 + 1e-9


def test_unknown_ratios_do_not_count() -> None:
    assert effective_sample_share(np.array([0.0, np.nan, 0.0])) == pytest.approx(1)
    assert math.isnan(effective_sample_share(np.array([np.nan])))
