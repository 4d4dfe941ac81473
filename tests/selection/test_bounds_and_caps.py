import pytest
from pydantic import ValidationError

from prefkit.selection.config import AllPairs, BestVsWorst, CorrectVsIncorrect, TopKOverall
from prefkit.selection.strategies import select
from tests.selection.builders import candidates, outcomes, pairs, prompt_outcomes, selected


def worst(**bounds: float) -> BestVsWorst:
    return BestVsWorst.model_validate({"kind": "best_vs_worst"} | bounds)


def test_margin_bounds_are_inclusive_and_name_the_side() -> None:
    frame = candidates([[0.0, 0.5], [0.0, 1.0], [0.0, 2.0], [0.0, 2.5], [1.0, 1.0]])
    selection = select(frame, worst(min_score_margin=1.0, max_score_margin=2.0), prompts=5)
    assert outcomes(selection) == ["below_margin", "selected", "selected", "above_margin", "tie"]
    assert prompt_outcomes(selection) == [
        "no_pair_in_bounds", "selected", "selected", "no_pair_in_bounds", "all_tied",
    ]  # fmt: skip


def test_margin_at_the_bound_is_compared_after_rounding() -> None:
    # 0.8 - 0.7 is 0.10000000000000009 and 0.3 - 0.2 is 0.09999999999999998 in binary.
    selection = select(
        candidates([[0.8, 0.7], [0.3, 0.2]]), worst(min_score_margin=0.1, max_score_margin=0.1), prompts=2
    )
    assert outcomes(selection) == ["selected", "selected"]


def test_length_ratio_looks_at_both_directions_and_keeps_the_bound_itself() -> None:
    frame = candidates([[2, 1], [2, 1], [2, 1], [2, 1], [2, 1]], lengths=[[10, 20], [21, 10], [10, 21], [0, 5], [0, 0]])
    selection = select(frame, worst(max_length_ratio=2.0), prompts=5)
    assert outcomes(selection) == ["selected", "length_ratio", "length_ratio", "length_ratio", "selected"]


def test_caps_per_prompt_count_only_pairs_in_bounds() -> None:
    config = AllPairs(kind="all_pairs", per_prompt=1, max_score_margin=3.0)
    selection = select(candidates([[1, 2, 4, 8]]), config, prompts=1)
    assert pairs(selection) == [(2, 0)]
    assert sorted(outcomes(selection)) == ["above_margin"] * 3 + ["not_selected"] * 2 + ["selected"]


def test_one_use_each_holds_also_among_the_pairs_in_bounds() -> None:
    # Only 0-3, 1-2 and 1-3 keep the ratio of 2; two disjoint pairs exist, and a second pair never reuses the first's.
    frame = candidates([[1, 1, 0, 0]], lengths=[[40, 10, 5, 20]])
    for seed in range(20):
        config = CorrectVsIncorrect(kind="correct_vs_incorrect", per_prompt=2, max_length_ratio=2.0, seed=seed)
        picked = pairs(select(frame, config, prompts=1))
        assert picked in ([(0, 3), (1, 2)], [(1, 2), (1, 3)], [(0, 3), (1, 3)])
        assert picked == [(0, 3), (1, 2)] or (1, 3) in picked


def test_cap_per_source_keeps_that_many_rows_of_each_source() -> None:
    frame = candidates([[2, 1]] * 30, sources=["a"] * 20 + ["b"] * 8 + ["c"] * 2)
    selection = select(frame, worst(per_source=5), prompts=30)
    assert [outcomes(selection)[s].count("selected") for s in (slice(0, 20), slice(20, 28), slice(28, 30))] == [5, 5, 2]
    assert prompt_outcomes(selection) == outcomes(selection)
    assert set(outcomes(selection)) == {"selected", "over_source_cap"}


def test_cap_per_source_depends_on_the_seed() -> None:
    frame = candidates([[2, 1]] * 30)
    assert pairs(select(frame, worst(per_source=5), prompts=30)) != pairs(
        select(frame, worst(per_source=5, seed=1), prompts=30)
    )


def test_cap_per_source_treats_missing_sources_as_one() -> None:
    frame = candidates([[2, 1]] * 6).with_columns(source=None).cast({"source": str})
    assert len(pairs(select(frame, worst(per_source=4), prompts=6))) == 4


def test_cap_per_source_comes_after_the_strategy() -> None:
    frame = candidates([[5], [4], [1], [0]], sources=["a", "a", "b", "b"])
    selection = select(frame, TopKOverall(kind="top_k_overall", k=2, per_source=1), prompts=4)
    assert len(selected(selection)) == 1
    assert sorted(outcomes(selection)) == ["not_selected", "not_selected", "over_source_cap", "selected"]


def test_bounds_that_no_pair_can_keep_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"max_score_margin is 1.0, below min_score_margin 2.0"):
        worst(min_score_margin=2.0, max_score_margin=1.0)
