import math

import polars as pl
import pytest
from pydantic import ValidationError

from prefkit.selection.config import RewardWeights, Threshold, TopKOverall, TopKPerPrompt
from prefkit.selection.strategies import select
from tests.selection.builders import candidates, outcomes, prompt_outcomes, selected


def test_top_k_per_prompt_takes_the_highest_of_each() -> None:
    selection = select(
        candidates([[2, 5, 1, 3], [], [7], [None, 4]]), TopKPerPrompt(kind="top_k_per_prompt", k=2), prompts=4
    )
    assert selected(selection) == [1, 3, 4, 6]
    assert outcomes(selection)[5] == "unscored"
    assert prompt_outcomes(selection) == ["selected", "no_completions", "selected", "selected"]


def test_top_k_per_prompt_breaks_ties_at_random_but_never_against_the_score() -> None:
    selection = select(candidates([[1, 5, 5, 5]] * 300), TopKPerPrompt(kind="top_k_per_prompt", k=1), prompts=300)
    counts = dict(pl.Series([candidate % 4 for candidate in selected(selection)]).value_counts().iter_rows())
    # 100 expected of each, standard deviation sqrt(300 x 1/3 x 2/3) = 8.2
    assert set(counts) == {1, 2, 3}
    assert all(55 < count < 145 for count in counts.values())


def test_top_k_with_min_score_names_what_is_below() -> None:
    selection = select(
        candidates([[2, 5], [1, 0]]), TopKPerPrompt(kind="top_k_per_prompt", k=2, min_score=2.0), prompts=2
    )
    assert outcomes(selection) == ["selected", "selected", "below_score", "below_score"]
    assert prompt_outcomes(selection) == ["selected", "below_score"]


def test_top_k_overall_takes_the_highest_of_all() -> None:
    selection = select(candidates([[9, 1], [2, 3], [8, 7], [None]]), TopKOverall(kind="top_k_overall", k=3), prompts=4)
    assert selected(selection) == [0, 4, 5]
    assert prompt_outcomes(selection) == ["selected", "not_selected", "selected", "unscored"]


def test_top_k_overall_takes_exactly_k_of_tied_scores() -> None:
    frame = candidates([[3, 3, 3, 3, 5], [3, 3, 3, 1, 1]])
    picked = selected(select(frame, TopKOverall(kind="top_k_overall", k=4), prompts=2))
    assert len(picked) == 4
    assert 4 in picked
    assert not {8, 9} & set(picked)


def test_top_k_overall_breaks_ties_at_random_not_by_position() -> None:
    picked = selected(select(candidates([[1.0]] * 400), TopKOverall(kind="top_k_overall", k=200), prompts=400))
    # 100 of the first 200 expected; hypergeometric standard deviation 5
    assert 75 < sum(candidate < 200 for candidate in picked) < 125


def test_top_k_overall_of_more_than_there_are_takes_all_scored() -> None:
    assert selected(select(candidates([[1, None], [2]]), TopKOverall(kind="top_k_overall", k=9), prompts=2)) == [0, 2]


def test_threshold_labels_both_sides_and_drops_between() -> None:
    config = Threshold(kind="threshold", desirable_at=4.0, undesirable_at=2.0)
    selection = select(candidates([[4, 3, 2], [3], [None]]), config, prompts=3)
    assert selection.rows["label"].to_list() == [True, None, False, None, None]
    assert outcomes(selection) == ["selected", "between_thresholds", "selected", "between_thresholds", "unscored"]
    assert prompt_outcomes(selection) == ["selected", "between_thresholds", "unscored"]


def test_threshold_without_a_lower_bound_labels_every_score() -> None:
    selection = select(candidates([[4, 3.999999999]]), Threshold(kind="threshold", desirable_at=4.0), prompts=1)
    assert selection.rows["label"].to_list() == [True, False]


def test_threshold_that_labels_a_score_twice_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"undesirable_at is 4.0, expected less than desirable_at 4.0"):
        Threshold(kind="threshold", desirable_at=4.0, undesirable_at=4.0)


def test_reward_weights_are_the_softmax_of_each_prompt() -> None:
    config = RewardWeights(kind="reward_weights", temperature=2.0)
    selection = select(candidates([[4, 2, None], [7], [None]]), config, prompts=3)
    # exp((4 - 4) / 2) = 1 and exp((2 - 4) / 2) = exp(-1), normalised
    high = 1 / (1 + math.exp(-1))
    assert selection.rows["weight"].to_list() == [
        pytest.approx(high, abs=1e-9), pytest.approx(1 - high, abs=1e-9), None, 1.0, None,
    ]  # fmt: skip
    assert prompt_outcomes(selection) == ["selected", "selected", "unscored"]


def test_reward_weights_survive_scores_far_apart() -> None:
    config = RewardWeights(kind="reward_weights", temperature=1e-3)
    assert select(candidates([[1e6, -1e6]]), config, prompts=1).rows["weight"].to_list() == [1.0, 0.0]


def test_label_and_weight_are_null_where_the_strategy_gives_none() -> None:
    rows = select(candidates([[1, 2]]), TopKPerPrompt(kind="top_k_per_prompt"), prompts=1).rows
    assert rows.schema["label"] == pl.Boolean
    assert rows.schema["weight"] == pl.Float64
    assert rows["label"].null_count() == rows["weight"].null_count() == 2
