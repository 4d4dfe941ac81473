import numpy as np
import polars as pl
import pytest

from prefkit.scoring.judge.bias import PairOutcome, consistency, length_bias, pair_labels, position_bias

AGREED, DISAGREED, INCOMPLETE = PairOutcome


def comparisons(*pairs: tuple[float | None, ...], judge: str = "j", lengths: tuple[int, int] = (10, 5)) -> pl.DataFrame:
    """Pairs as the preferences for a in the orders ab, ba, ab, ba, ...: one round of two for every repeat."""
    rows = [
        (judge, f"a{number}", f"b{number}", "overall", "ab" if place % 2 == 0 else "ba", place // 2, value, *lengths)
        for number, values in enumerate(pairs)
        for place, value in enumerate(values)
    ]
    names = ["judge", "completion_a", "completion_b", "aspect", "order", "repeat", "preference", "length_a", "length_b"]
    return pl.DataFrame(rows, schema=names, orient="row", schema_overrides={"preference": pl.Float64})


def labels(*pairs: tuple[float | None, ...], tie_band: float = 0.0) -> list[tuple[float | None, str]]:
    frame = pair_labels(comparisons(*pairs), tie_band).sort("completion_a")
    return list(frame.select("preference", "outcome").iter_rows())


def test_label_of_orders_that_agree_is_their_mean_and_of_those_that_do_not_a_tie() -> None:
    assert labels((1, 0.75), (0.25, 0.25), (0.5, 0.5), (1, 0), (1, 0.25), (1, 0.5)) == [
        (0.875, AGREED),
        (0.25, AGREED),
        (0.5, AGREED),
        (0.5, DISAGREED),
        (0.5, DISAGREED),
        (0.5, DISAGREED),
    ]


def test_label_of_a_pair_with_a_failed_order_is_missing_and_not_a_tie() -> None:
    assert labels((1, None), (None, None)) == [(None, INCOMPLETE), (None, INCOMPLETE)]


def test_label_of_a_pair_asked_for_in_one_order_is_that_of_the_order() -> None:
    assert labels((1,), (0.5,)) == [(1, AGREED), (0.5, AGREED)]


def test_label_averages_the_repeats_of_an_order_before_the_orders_are_compared() -> None:
    # ab: (1 + 0.25) / 2 = 0.625, ba: (0.75 + None) / 1 = 0.75; then ab: (1 + 0) / 2 = 0.5, ba: 1.
    assert labels((1, 0.75, 0.25, None), (1, 1, 0, 1)) == [((0.625 + 0.75) / 2, AGREED), (0.5, DISAGREED)]


def test_label_within_the_tie_band_is_a_tie_in_its_order() -> None:
    assert labels((0.75, 1), tie_band=0.25) == [(0.5, DISAGREED)]
    assert labels((0.75, 0.75), tie_band=0.24) == [(0.75, AGREED)]


def measured(frame: pl.DataFrame) -> tuple[float | None, ...]:
    (row,) = frame.select("value", "low", "high", "pairs").iter_rows()
    return row


def test_position_bias_by_hand() -> None:
    # v_ab - v_ba: the first both times (1), a tie and the first (1/2), the same one both times (0), the second both
    # times (-1), the first both times (1). Their sum is 3/2 of 5 pairs. With one pair more at 1 and one at -1 the mean
    # is 1.5 / 7 and the mean square (3 + 1/4 + 2) / 7 = 5.25 / 7.
    value, low, high, pairs = measured(position_bias(comparisons((1, 0), (0.5, 0.25), (1, 1), (0, 1), (0.75, 0))))
    half = 1.959963984540054 * ((5.25 / 7 - (1.5 / 7) ** 2) / 7) ** 0.5
    assert (value, pairs) == (0.3, 5)
    assert (low, high) == pytest.approx((1.5 / 7 - half, 1.5 / 7 + half))


def test_position_bias_ignores_pairs_without_a_verdict_in_both_orders() -> None:
    frame = comparisons((1, 0), (1, None), (1,))
    assert measured(position_bias(frame))[0::3] == (1, 1)


def test_position_bias_averages_the_repeats_of_a_pair_before_pairs_are_counted() -> None:
    # The first pair counts (1 + 0) / 2, the second 0: the mean is 1/4 over 2 pairs.
    assert measured(position_bias(comparisons((1, 0, 1, 1), (1, 1))))[0::3] == (0.25, 2)


def test_position_bias_of_few_pairs_that_all_agree_is_still_uncertain() -> None:
    value, low, high, _ = measured(position_bias(comparisons((1, 1), (0, 0), (1, 1))))
    assert value == 0
    assert low is not None
    assert high == pytest.approx(-low)
    assert low < -0.4


def test_consistency_by_hand_is_a_share_with_wilsons_interval() -> None:
    # 3 of 4 pairs agree. Wilson: (3/4 + z^2 / 8 -+ z sqrt(3/64 + z^2 / 64)) / (1 + z^2 / 4) = 0.300642, 0.954413.
    frame = comparisons((1, 0.75), (0, 0.25), (0.5, 0.5), (1, 0), (1, None))
    assert measured(consistency(frame)) == pytest.approx((0.75, 0.300642, 0.954413, 4), abs=1e-6)


def test_length_bias_by_hand_counts_decided_pairs_of_unequal_length() -> None:
    longer = [comparisons((1, 1), lengths=(9, 3)), comparisons((0, 0), judge="k", lengths=(3, 9))]
    shorter = comparisons((0, 0), judge="m", lengths=(9, 3))
    undecided = [comparisons((1, 0), judge="n"), comparisons((1, 1), judge="o", lengths=(4, 4))]
    frame = length_bias(pl.concat([*longer, shorter, *undecided]))
    assert frame["judge"].to_list() == ["j", "k", "m", "n", "o"]
    assert frame["value"].to_list() == [1, 1, -1, None, None]
    assert frame["pairs"].to_list() == [1, 1, 1, 0, 0]
    # 1 of 1: Wilson gives a share from 1 / (1 + z^2) to 1.
    assert frame["low"][0] == pytest.approx(2 / (1 + 1.959963984540054**2) - 1)
    assert frame["high"][0] == 1


def test_bias_is_measured_for_each_judge_by_its_own_comparisons() -> None:
    frame = pl.concat([comparisons((1, 0), (1, 0), judge="first"), comparisons((1, 1), (0, 0), judge="fair")])
    assert position_bias(frame).select("judge", "value").rows() == [("fair", 0.0), ("first", 1.0)]
    assert consistency(frame).select("judge", "value").rows() == [("fair", 1.0), ("first", 0.0)]


NOISE = 0.2


def simulated(bias: float, judges: int, pairs: int, seed: int) -> pl.DataFrame:
    """Judges that take the first with probability `bias`, else the better one, but in 20 % they mistake which it is.

    They mistake a pair in both orders alike, so no number of orders can mend it.
    """
    noise = np.random.default_rng([seed, int(100 * bias)])
    rows = judges * pairs
    truth = noise.random(rows) < 0.5
    seen = truth ^ (noise.random(rows) < NOISE)
    base = pl.DataFrame(
        {"judge": np.repeat(np.arange(judges), pairs), "completion_a": np.arange(rows), "truth": truth}
    ).with_columns(completion_b=pl.col("completion_a"), aspect=pl.lit("overall"), repeat=pl.lit(0))
    shown = [
        base.with_columns(
            order=pl.lit(order),
            preference=pl.Series(np.where(noise.random(rows) < bias, order == "ab", seen).astype(float)),
        )
        for order in ("ab", "ba")
    ]
    return pl.concat(shown)


@pytest.mark.parametrize("bias", [0.0, 0.1, 0.3, 0.5])
def test_position_bias_of_simulated_judges_lies_in_its_interval(bias: float) -> None:
    found = position_bias(simulated(bias, judges=100, pairs=200, seed=1))
    held = found.filter(pl.col("low") <= bias, pl.col("high") >= bias).height
    assert held >= 93
    many = position_bias(simulated(bias, judges=1000, pairs=100, seed=2))
    assert many.filter(pl.col("low") <= bias, pl.col("high") >= bias).height >= 925
    assert many["value"].mean() == pytest.approx(bias, abs=0.01)


@pytest.mark.parametrize("bias", [0.0, 0.1, 0.3, 0.5])
def test_labels_from_both_orders_are_as_wrong_as_those_of_an_unbiased_judge(bias: float) -> None:
    frame = simulated(bias, judges=1, pairs=20_000, seed=3)
    truths = frame.filter(pl.col("order") == "ab").select("completion_a", "truth")
    decided = pair_labels(frame).filter(pl.col("preference") != 0.5).join(truths, on="completion_a")
    from_both = (decided["preference"] > 0.5) != decided["truth"]
    alternate = frame.filter((pl.col("order") == "ab") == (pl.col("completion_a") % 2 == 0))
    from_one = (alternate["preference"] > 0.5) != alternate["truth"]
    assert from_both.mean() == pytest.approx(NOISE, abs=0.02)
    assert from_one.mean() == pytest.approx(bias / 2 + (1 - bias) * NOISE, abs=0.02)
    assert decided.height / 20_000 == pytest.approx(1 - bias, abs=0.02)


def test_labels_from_both_orders_of_a_judge_that_always_takes_the_first_are_all_ties() -> None:
    assert pair_labels(simulated(1.0, judges=1, pairs=100, seed=4))["preference"].unique().to_list() == [0.5]
