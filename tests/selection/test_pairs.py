import polars as pl
import pytest

from prefkit.selection.config import AllPairs, BestVsRandom, BestVsSecond, BestVsWorst, CorrectVsIncorrect
from prefkit.selection.strategies import select
from tests.selection.builders import candidates, outcomes, pairs, prompt_outcomes

WORST = BestVsWorst(kind="best_vs_worst")
RANDOM = BestVsRandom(kind="best_vs_random")
SECOND = BestVsSecond(kind="best_vs_second")
ALL = AllPairs(kind="all_pairs")
CORRECT = CorrectVsIncorrect(kind="correct_vs_incorrect")


def test_best_vs_worst_takes_the_extremes() -> None:
    selection = select(candidates([[2, 5, 1, 3], [7, 9]]), WORST, prompts=2)
    assert pairs(selection) == [(1, 2), (5, 4)]
    assert selection.rows["score_margin"].to_list() == [4.0, 2.0]


def test_best_vs_second_takes_the_next_lower_score() -> None:
    selection = select(candidates([[2, 5, 1, 3], [4, 4, 1]]), SECOND, prompts=2)
    assert pairs(selection)[0] == (1, 3)
    assert pairs(selection)[1] in [(4, 6), (5, 6)]


def test_best_vs_random_takes_every_lower_one_about_equally_often() -> None:
    selection = select(candidates([[3, 1, 2, 2]] * 600), RANDOM, prompts=600)
    rejected = pl.Series([rejected % 4 for _, rejected in pairs(selection)])
    counts = dict(rejected.value_counts().iter_rows())
    # 200 expected of each, standard deviation sqrt(600 x 1/3 x 2/3) = 11.5
    assert set(counts) == {1, 2, 3}
    assert all(140 < count < 260 for count in counts.values())


def test_ties_at_the_top_are_broken_at_random_by_seed() -> None:
    frame = candidates([[5, 5, 1]] * 400)
    first = select(frame, WORST, prompts=400)
    counts = dict(pl.Series([chosen % 3 for chosen, _ in pairs(first)]).value_counts().iter_rows())
    # 200 expected of each, standard deviation 10
    assert set(counts) == {0, 1}
    assert all(140 < count < 260 for count in counts.values())
    assert pairs(first) != pairs(select(frame, BestVsWorst(kind="best_vs_worst", seed=1), prompts=400))


@pytest.mark.parametrize("config", [WORST, RANDOM, SECOND])
def test_best_vs_with_equal_scores_is_one_counted_tie(config: BestVsWorst | BestVsRandom | BestVsSecond) -> None:
    selection = select(candidates([[3, 3, 3], [1, 2]]), config, prompts=2)
    assert outcomes(selection) == ["tie", "selected"]
    assert prompt_outcomes(selection) == ["all_tied", "selected"]
    assert selection.rows.filter(pl.col("chosen") == pl.col("rejected")).is_empty()


def test_all_pairs_orients_every_pair_and_counts_ties() -> None:
    selection = select(candidates([[1, 3, 3], [2, 5]]), ALL, prompts=2)
    assert sorted(pairs(selection)) == [(1, 0), (2, 0), (4, 3)]
    assert outcomes(selection) == ["selected", "selected", "tie", "selected"]


def test_all_pairs_of_groups_of_different_sizes_stay_within_their_prompt() -> None:
    selection = select(candidates([[1, 2, 3, 4], [], [1], [5, 6], [1, 2, 3]]), ALL, prompts=5)
    assert selection.rows["prompt"].to_list() == [0] * 6 + [3] + [4] * 3
    assert sorted(pairs(selection)) == [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2), (6, 5), (8, 7), (9, 7), (9, 8)]


def test_all_pairs_per_prompt_keeps_the_widest_margins() -> None:
    capped = AllPairs(kind="all_pairs", per_prompt=2)
    selection = select(candidates([[1, 2, 4, 8]]), capped, prompts=1)
    assert sorted(pairs(selection)) == [(3, 0), (3, 1)]
    assert outcomes(selection).count("not_selected") == 4


def test_correct_vs_incorrect_draws_one_pair_across_the_border() -> None:
    selection = select(candidates([[1, 0, 1, 0]]), CORRECT, prompts=1)
    ((chosen, rejected),) = pairs(selection)
    assert chosen in (0, 2)
    assert rejected in (1, 3)
    assert outcomes(selection).count("not_selected") == 3


def test_correct_vs_incorrect_counts_a_score_at_the_border_as_correct() -> None:
    config = CorrectVsIncorrect(kind="correct_vs_incorrect", correct_at=0.7)
    assert pairs(select(candidates([[0.7, 0.699999999]]), config, prompts=1)) == [(0, 1)]


def test_correct_vs_incorrect_uses_each_completion_once_while_others_are_left() -> None:
    config = CorrectVsIncorrect(kind="correct_vs_incorrect", per_prompt=4)
    for seed in range(20):
        seeded = config.model_copy(update={"seed": seed})
        chosen, rejected = zip(*pairs(select(candidates([[1, 1, 0, 0, 0, 0]]), seeded, prompts=1)), strict=True)
        assert sorted(chosen) == [0, 0, 1, 1]
        assert sorted(rejected) == [2, 3, 4, 5]


def test_correct_vs_incorrect_without_a_cap_keeps_the_whole_product() -> None:
    config = CorrectVsIncorrect(kind="correct_vs_incorrect", per_prompt=None)
    assert pairs(select(candidates([[0, 1, 1, 0]]), config, prompts=1)) == [(1, 0), (1, 3), (2, 0), (2, 3)]


def test_correct_vs_incorrect_says_which_side_is_missing() -> None:
    selection = select(candidates([[0, 0], [1, 1, 1], [1, 0], [1], [None, None], []]), CORRECT, prompts=6)
    assert prompt_outcomes(selection) == [
        "no_correct", "no_incorrect", "selected", "one_completion", "unscored", "no_completions",
    ]  # fmt: skip


@pytest.mark.parametrize("config", [WORST, RANDOM, SECOND, ALL])
def test_pair_strategies_name_what_a_prompt_lacks(
    config: BestVsWorst | BestVsRandom | BestVsSecond | AllPairs,
) -> None:
    selection = select(candidates([[], [None, None], [None, 3], [4, None], [4, None, 3], []]), config, prompts=6)
    assert prompt_outcomes(selection) == [
        "no_completions", "unscored", "one_completion", "one_completion", "selected", "no_completions",
    ]  # fmt: skip
    assert pairs(selection) == [(6, 8)]


def test_completions_with_the_same_key_still_make_two_sides() -> None:
    frame = candidates([[1, 1], [2, 1]]).with_columns(key=pl.lit(7, pl.UInt64))
    selection = select(frame, WORST, prompts=2)
    assert selection.rows.filter(pl.col("chosen") == pl.col("rejected")).is_empty()
    assert pairs(selection) == [(2, 3)]
