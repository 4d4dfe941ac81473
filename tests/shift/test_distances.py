import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.shift.bootstrap import Bootstrap
from prefkit.shift.distances import Distances, auc, distances

QUICK = Bootstrap(resamples=50)
VALUES = st.lists(st.integers(0, 30).map(float), min_size=2, max_size=20).map(np.array)


def compared(values: np.ndarray, samples: np.ndarray, bootstrap: Bootstrap = QUICK) -> Distances:
    return distances(values, np.arange(len(values)), samples, np.arange(len(samples)), bootstrap)


def test_distances_of_two_small_samples_are_worked_by_hand() -> None:
    # rows 1, 3; samples 1, 2, 2, 6. F: 1/2 from 1, 1 from 3. G: 1/4 from 1, 3/4 from 2, 1 from 6.
    # |F - G|: 1/4 on [1, 2), 1/4 on [2, 3), 1/4 on [3, 6): KS 1/4, W1 = (1 + 1 + 3) / 4 = 5/4
    # Of 8 couples the row is larger in 3 (3 > 1, 2, 2) and equal in 1: AUC 3.5 / 8
    found = compared(np.array([1.0, 3]), np.array([1.0, 2, 2, 6]))
    assert (found.ks.value, found.wasserstein.value, found.auc.value) == (0.25, 1.25, 3.5 / 8)


def test_auc_of_larger_values_is_one_and_of_equal_ones_a_half() -> None:
    assert auc(np.array([5.0, 6]), np.array([1.0, 2, 3])) == 1
    assert auc(np.array([2.0, 2]), np.array([2.0])) == 0.5


@given(values=VALUES, samples=VALUES)
def test_distances_are_symmetric_and_bounded(values: np.ndarray, samples: np.ndarray) -> None:
    one, other = compared(values, samples), compared(samples, values)
    assert 0 <= one.ks.value <= 1
    assert one.ks.value == pytest.approx(other.ks.value)
    assert one.wasserstein.value == pytest.approx(other.wasserstein.value)
    assert one.auc.value + other.auc.value == pytest.approx(1)
    assert one.wasserstein.value >= abs(values.mean() - samples.mean()) - 1e-9


@given(values=VALUES, samples=VALUES, by=st.integers(1, 50))
def test_moving_values_apart_adds_to_the_wasserstein_distance(values: np.ndarray, samples: np.ndarray, by: int) -> None:
    above = values + samples.max()
    near, far = compared(above, samples), compared(above + by, samples)
    assert far.wasserstein.value == pytest.approx(near.wasserstein.value + by)


@pytest.mark.parametrize("mean", [100, 120, 200])
def test_intervals_hold_the_truth_whether_distributions_differ_or_not(mean: float) -> None:
    # Exponential lengths with means m and 100: W1 = m - 100, and P(row > sample) = m / (m + 100)
    held = np.zeros(2)
    for seed in range(40):
        generator = np.random.default_rng(seed + 1000)
        found = compared(generator.exponential(mean, 800), generator.exponential(100, 800), Bootstrap(200, seed))
        truths = ((found.wasserstein, mean - 100), (found.auc, mean / (mean + 100)))
        held += [estimate.low <= truth <= estimate.high for estimate, truth in truths]
    assert (held >= 34).all()
