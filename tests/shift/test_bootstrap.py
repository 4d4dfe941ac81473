import numpy as np
import pytest

from prefkit.shift.bootstrap import Bootstrap, Column, resampled_means, resampled_totals

BOOTSTRAP = Bootstrap(resamples=400, seed=0)


def test_mean_is_over_rows_and_its_interval_over_prompts() -> None:
    # Two prompts, one with three rows: the mean is 3/4. A resample draws {0,0}, {0,1} or {1,1}: 1, 3/4 or 0.
    mean = resampled_means({"x": Column(np.array([1.0, 1, 1, 0]), np.array([7, 7, 7, 9]))}, BOOTSTRAP)["x"]
    assert (mean.value, mean.rows, mean.prompts) == (0.75, 4, 2)
    assert set(np.unique(mean.draws)) == {0.0, 0.75, 1.0}


def test_totals_of_a_resample_are_as_many_prompts_as_there_are() -> None:
    assert set(resampled_totals(np.ones((17, 1)), BOOTSTRAP).ravel()) == {17.0}


def test_standard_error_of_independent_rows_is_that_of_the_textbook() -> None:
    values = np.random.default_rng(0).normal(size=2000)
    found = resampled_means({"x": Column(values, np.arange(2000))}, Bootstrap(seed=1))["x"].estimate(0.95)
    assert found.se == pytest.approx(values.std() / np.sqrt(2000), rel=0.1)
    assert found.high - found.low == pytest.approx(2 * 1.96 * found.se, rel=0.1)


def test_interval_holds_the_true_mean_where_rows_of_a_prompt_are_alike() -> None:
    # Ten rows per prompt that share most of their noise: an interval over rows would often miss.
    held = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        values = np.repeat(generator.normal(size=60), 10) + 0.1 * generator.normal(size=600)
        column = Column(values, np.repeat(np.arange(60), 10))
        found = resampled_means({"x": column}, Bootstrap(300, seed + 999))["x"].estimate(0.95)
        held += found.low <= 0 <= found.high
    assert 0.89 <= held / 200 <= 0.99


def test_difference_of_a_column_with_itself_plus_one_is_known_exactly() -> None:
    values, prompts = np.random.default_rng(0).normal(size=50), np.arange(50)
    means = resampled_means({"a": Column(values + 1, prompts), "b": Column(values, prompts)}, BOOTSTRAP)
    found = (means["a"] - means["b"]).estimate(0.95)
    assert (found.low, found.high) == (pytest.approx(1), pytest.approx(1))


def test_unknown_values_do_not_count_and_a_column_of_them_is_left_out() -> None:
    prompts = np.arange(3)
    columns = {"some": Column(np.array([2.0, np.nan, 4]), prompts), "none": Column(np.full(3, np.nan), prompts)}
    means = resampled_means(columns, BOOTSTRAP)
    assert set(means) == {"some"}
    assert (means["some"].value, means["some"].rows) == (3.0, 2)


def test_share_of_none_may_still_be_five_percent_of_sixty() -> None:
    # Of 60 independent rows none: (1 - p)^60 = 0.025 at p = 0.0596
    found = resampled_means({"x": Column(np.zeros(60), np.arange(60))}, BOOTSTRAP)["x"].share(0.95)
    assert (found.low, found.high) == (0.0, pytest.approx(0.0596, abs=1e-4))


def test_bundles_of_prompts_give_the_interval_that_prompts_would() -> None:
    values = np.random.default_rng(0).normal(size=20_000)
    found = resampled_means({"x": Column(values, np.arange(20_000))}, Bootstrap(seed=1))["x"].estimate(0.95)
    assert found.prompts == 20_000
    assert found.se == pytest.approx(values.std() / np.sqrt(20_000), rel=0.1)


def test_one_prompt_has_no_interval() -> None:
    found = resampled_means({"x": Column(np.array([1.0, 2]), np.array([0, 0]))}, BOOTSTRAP)["x"].estimate(0.95)
    assert found.value == 1.5
    assert np.isnan([found.se, found.low, found.high]).all()
