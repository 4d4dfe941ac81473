import polars as pl
import pytest

from prefkit.selection.config import GradedComparisons
from prefkit.selection.outcomes import Selection
from prefkit.selection.strategies import select
from tests.selection.builders import candidates, outcomes, pairs, prompt_outcomes

UNSCORED_PAIR = [None, None]


def comparisons(*rows: tuple[int, int, int, float | None]) -> pl.DataFrame:
    schema = {"prompt": pl.UInt32, "a": pl.UInt32, "b": pl.UInt32, "preference": pl.Float64}
    return pl.DataFrame(list(rows), schema, orient="row")


def compared(groups: int, frame: pl.DataFrame, **settings: float | None) -> Selection:
    config = GradedComparisons.model_validate({"kind": "comparisons"} | settings)
    return select(candidates([UNSCORED_PAIR] * groups), config, prompts=groups, comparisons=frame)


def test_comparison_mean_decides_the_side_and_the_margin() -> None:
    selection = compared(2, comparisons((0, 0, 1, 0.9), (0, 0, 1, 0.6), (1, 2, 3, 0.0), (1, 2, 3, 0.5)))
    assert pairs(selection) == [(0, 1), (3, 2)]
    # |2 x 0.75 - 1| and |2 x 0.25 - 1|
    assert selection.rows["score_margin"].to_list() == [0.5, 0.5]


def test_comparison_orders_that_disagree_are_a_tie() -> None:
    selection = compared(1, comparisons((0, 0, 1, 1.0), (0, 0, 1, 0.0)))
    assert outcomes(selection) == ["tie"]
    assert prompt_outcomes(selection) == ["all_tied"]


def test_comparison_failures_do_not_count_as_preferences() -> None:
    selection = compared(2, comparisons((0, 0, 1, 1.0), (0, 0, 1, None), (1, 2, 3, None), (1, 2, 3, None)))
    assert outcomes(selection) == ["selected", "unscored"]
    assert selection.rows["score_margin"].to_list() == [1.0, None]
    assert prompt_outcomes(selection) == ["selected", "unscored"]


def test_comparison_tie_band_includes_its_edge() -> None:
    selection = compared(2, comparisons((0, 0, 1, 0.6), (1, 2, 3, 0.61)), tie_band=0.1)
    assert outcomes(selection) == ["tie", "selected"]


def test_comparison_keeps_the_widest_pair_of_a_prompt() -> None:
    frame = comparisons((0, 0, 1, 0.6), (0, 0, 2, 0.1), (0, 1, 2, 0.7))
    config = GradedComparisons(kind="comparisons")
    selection = select(candidates([[None, None, None]]), config, prompts=1, comparisons=frame)
    assert pairs(selection) == [(2, 0)]
    assert outcomes(selection) == ["not_selected", "selected", "not_selected"]


def test_prompts_without_comparisons_say_what_they_lack() -> None:
    frame = comparisons((3, 3, 4, 1.0))
    config = GradedComparisons(kind="comparisons")
    groups = candidates([[], [None], [None, None], [None, None]])
    selection = select(groups, config, prompts=4, comparisons=frame)
    assert prompt_outcomes(selection) == ["no_completions", "one_completion", "no_comparisons", "selected"]


def test_comparisons_of_completions_that_are_no_candidates_are_left_out() -> None:
    frame = comparisons((0, 0, 1, 1.0), (0, 0, 9, 1.0), (0, 5, 9, 1.0))
    assert pairs(compared(1, frame)) == [(0, 1)]


def test_comparison_order_of_rows_changes_nothing() -> None:
    rows = [(0, 0, 1, p) for p in (0.1, 0.7, 0.2, 1.0, 0.3, 0.9)]
    forward, backward = compared(1, comparisons(*rows)), compared(1, comparisons(*reversed(rows)))
    assert forward.rows.equals(backward.rows)


@pytest.mark.parametrize("row", [(0, 0, 2, 1.0), (0, 1, 0, 1.0), (0, 1, 1, 1.0)])
def test_comparison_across_prompts_or_out_of_order_is_refused(row: tuple[int, int, int, float]) -> None:
    with pytest.raises(ValueError, match="not between two candidates"):
        compared(2, comparisons(row))


def test_comparison_strategy_without_comparisons_is_refused() -> None:
    with pytest.raises(ValueError, match="no comparisons"):
        select(candidates([UNSCORED_PAIR]), GradedComparisons(kind="comparisons"), prompts=1)
