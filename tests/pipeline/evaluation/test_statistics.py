"""Numbers of an evaluation from frames: intervals cover, pairing narrows them, what is not known is left out."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.pipeline.evaluation.preferences import by_judges, by_score, matches
from prefkit.pipeline.evaluation.statistics import Scope, scope
from prefkit.shift.bootstrap import Bootstrap, Estimate

QUICK = Bootstrap(resamples=300)
PROMPTS, N = 60, 4
GAIN = 0.3


def side(rewards: np.ndarray, **columns: object) -> pl.DataFrame:
    """Rows of a side from rewards of shape (prompts, completions)."""
    prompts, n = rewards.shape
    base = {
        "prompt": np.repeat(np.arange(prompts), n), "source": "made up", "candidate": np.arange(rewards.size),
        "text": "", "failed": 0.0, "cut": 0.0, "unlabelled": 0.0, "tokens": 5, "reward": rewards.ravel(),
        "log_ratio": None,
    }  # fmt: skip
    return pl.DataFrame(
        {
            name: pl.Series(value) if isinstance(value, np.ndarray) else value
            for name, value in (base | columns).items()
        },
        schema_overrides={"log_ratio": pl.Float64},
    )


def draws(seed: int, gain: float = GAIN) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Prompts are harder or easier for both, much more than the policy is better."""
    random = np.random.default_rng(seed)
    hard = random.normal(0, 2, (PROMPTS, 1))
    own = random.normal(gain, 0.5, (PROMPTS, 1))
    return side(hard + own + random.normal(0, 1, (PROMPTS, N))), side(hard + random.normal(0, 1, (PROMPTS, N)))


def numbers(policy: pl.DataFrame, baseline: pl.DataFrame) -> Scope:
    pairs = by_score(named(policy, baseline))
    return scope(policy, baseline, pairs, [], QUICK)


def named(policy: pl.DataFrame, baseline: pl.DataFrame) -> pl.DataFrame:
    """Their matches; every text is another one."""
    texts = [
        rows.with_columns(text=pl.format("{} {}", pl.lit(name), "candidate"))
        for name, rows in (("p", policy), ("b", baseline))
    ]
    return matches(*texts)


def known(estimate: Estimate | None) -> Estimate:
    assert estimate is not None
    return estimate


def test_interval_of_a_difference_covers_the_true_one_and_is_narrower_than_that_of_a_side():
    covered = 0
    for seed in range(100):
        reward = numbers(*draws(seed)).reward
        difference, alone = known(reward.difference), known(reward.policy)
        covered += difference.low <= GAIN <= difference.high
        assert difference.high - difference.low < 0.75 * (alone.high - alone.low)
    assert 88 <= covered <= 99  # of 100 at 95 %: within three standard deviations, and less for percentiles


def test_win_rate_of_policies_that_do_not_differ_covers_a_half():
    rates = [known(wins.rate) for seed in range(60) if (wins := numbers(*draws(seed, 0.0)).wins)]
    assert 52 <= sum(rate.low <= 0.5 <= rate.high for rate in rates) <= 60


@settings(max_examples=25)
@given(st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=2), min_size=2, max_size=6), st.integers(0, 99))
def test_win_rates_of_both_directions_add_up_to_one(rewards: list[list[int]], seed: int):
    one = side(np.array(rewards, float))
    other = side(np.random.default_rng(seed).integers(0, 3, (len(rewards), 3)).astype(float))
    there, back = numbers(one, other).wins, numbers(other, one).wins
    assert there is not None
    assert back is not None
    assert (there.wins, there.ties, there.losses) == (back.losses, back.ties, back.wins)
    assert abs(there.rate.value + back.rate.value - 1) < 1e-12


def test_preference_within_the_tie_band_is_a_tie_whichever_side_comes_first():
    pairs = named(side(np.zeros((1, 1))), side(np.zeros((1, 2))).with_columns(candidate=pl.Series([1, 2])))
    for first, second, preference, said in ((0, 1, 0.56, 1.0), (1, 0, 0.56, 0.0), (0, 1, 0.54, 0.5), (1, 0, 0.45, 0.5)):
        told = pl.DataFrame({"first": [first], "second": [second], "preference": [preference]})
        assert by_judges(pairs, told, 0.05)["preference"].to_list() == [said, None]


def test_shares_at_an_end_have_an_interval_and_other_means_do_not():
    perfect = side(np.ones((20, 2))).with_columns(pl.lit(1.0).alias("aspect.exact"), pl.lit(1.0).alias("aspect.taste"))
    found = scope(perfect, perfect, by_score(matches(perfect, perfect)), ["exact"], QUICK)
    exact, taste = (known(found.aspects[name].policy) for name in ("exact", "taste"))
    assert exact.low == pytest.approx(0.025 ** (1 / 20))  # Clopper and Pearson, 20 of 20
    assert (taste.low, taste.high, exact.high) == (1.0, 1.0, 1.0)


def test_one_prompt_has_no_interval():
    one = side(np.array([[1.0, 0.0]]))
    found = numbers(one, one)
    assert known(found.reward.policy).value == 0.5
    assert np.isnan([known(found.reward.policy).low, known(found.reward.difference).high]).all()


def test_unknown_log_ratios_are_left_out_of_the_tokens_that_divergence_is_shared_among():
    rows = side(np.zeros((2, 2)), tokens=np.array([2, 10, 3, 10])).with_columns(
        log_ratio=pl.Series([-1.0, None, -1.5, None])
    )
    moved = numbers(rows, rows).divergence["policy"]
    assert moved is not None
    assert (moved.k1.value, moved.per_token.value, moved.k1.rows) == (1.25, 2.5 / 5, 2)
