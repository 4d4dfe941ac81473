import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.errors import RecipeError
from prefkit.stream.clock import Clock, refuse_reference


def test_clock_at_period_3_syncs_every_third_step_and_rows_lag_0_to_2() -> None:
    clock = Clock(3)
    assert [step for step in range(8) if clock.syncs_at(step)] == [3, 6]
    assert [clock.last_sync(step) for step in range(8)] == [0, 0, 0, 3, 3, 3, 6, 6]
    assert [step - clock.last_sync(step) for step in range(6)] == [0, 1, 2, 0, 1, 2]
    assert clock.longest_lag == 2


def test_clock_at_period_1_serves_no_row_that_lags() -> None:
    clock = Clock(1)
    assert all(clock.syncs_at(step) for step in range(1, 5))
    assert clock.fresh(4, 4)
    assert not clock.fresh(3, 4)


@pytest.mark.parametrize("period", [math.inf, None])
def test_clock_without_a_period_never_syncs_and_nothing_is_stale(period: float | None) -> None:
    clock = Clock(period)
    assert not any(clock.syncs_at(step) for step in range(100))
    assert clock.last_sync(99) == 0
    assert clock.longest_lag is None
    assert clock.fresh(0, 10**9)


def test_clock_resets_at_its_own_period() -> None:
    clock = Clock(2, reference_reset_period=5)
    assert [step for step in range(11) if clock.resets_at(step)] == [5, 10]
    assert [clock.last_reset(step) for step in (0, 4, 5, 9, 10)] == [0, 0, 5, 5, 10]
    assert not any(Clock(2).resets_at(step) for step in range(11))


@given(st.integers(1, 12), st.integers(0, 30), st.integers(0, 200))
def test_rows_of_the_last_sync_may_always_be_served(period: int, more: int, step: int) -> None:
    clock = Clock(period, max_staleness=period - 1 + more)
    assert clock.fresh(clock.last_sync(step), step)
    assert not clock.fresh(step - period - more, step)


def test_row_that_no_learner_sampled_is_never_stale() -> None:
    assert Clock(1).fresh(None, 10**6)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"sync_period": 2.5}, r"sync_period is 2\.5, expected a whole number of steps, at least 1 .*1 is online"),
        ({"sync_period": 0}, "sync_period is 0, expected a whole number of steps"),
        ({"sync_period": -math.inf}, "sync_period is -inf, expected a whole number"),
        ({"sync_period": math.nan}, "sync_period is nan, expected a whole number"),
        ({"sync_period": 4, "max_staleness": 2}, "max_staleness is 2 with sync_period 4, expected at least 3"),
        ({"sync_period": math.inf, "max_staleness": 9}, "max_staleness is 9 with sync_period inf, expected no bound"),
        ({"sync_period": 1, "max_staleness": -1}, "max_staleness is -1 with sync_period 1, expected at least 0"),
        ({"reference_reset_period": 0}, "reference_reset_period is 0, expected a whole number"),
        ({"reference_reset_period": math.inf}, r"reference_reset_period is \.inf, expected a number of steps"),
    ],
)
def test_clock_refuses_what_no_run_could_keep_in_one_line(arguments: dict[str, float], told: str) -> None:
    with pytest.raises(RecipeError, match=told) as error:
        Clock(**arguments)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_reference_and_reset_period_need_each_other() -> None:
    refuse_reference("reset", 10)
    refuse_reference("fixed", None)
    refuse_reference("behavior", None)
    with pytest.raises(RecipeError, match="reference is 'reset' and reference_reset_period is null"):
        refuse_reference("reset", None)
    with pytest.raises(RecipeError, match="reference_reset_period is 10 and reference is 'behavior'"):
        refuse_reference("behavior", 10)
