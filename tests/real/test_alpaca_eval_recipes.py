"""Recipes over AlpacaEval: judges side by side, two baselines, every strategy. All numbers were counted beforehand on
the published tables: a candidate is a text of a prompt that has no defect, its score the mean of what its judges gave.
"""

from collections.abc import Callable

import polars as pl
import pytest

from prefkit.api import Version
from tests.real.data import table
from tests.real.sources import Source, ledger, pair_facts

WEIGHTED = "weighted_alpaca_eval_gpt4_turbo"
AGAINST_GPT4 = f"score: [{{kind: imported, scorer: {WEIGHTED}, against: gpt4_1106_preview}}]\n"
COMPARED = f"score: [{{kind: imported, scorer: {WEIGHTED}}}]\n"


@pytest.fixture(scope="module")
def source(imported: Callable[[str], Source]) -> Source:
    return imported("alpaca_eval")


@pytest.fixture(scope="module")
def graded(source: Source) -> Version:
    return source.build("graded", COMPARED + "select: {kind: comparisons, per_prompt: null, tie_band: 0.1}")


def require_sound(version: Version, source: Source) -> pl.DataFrame:
    """The version's pairs, which neither cross prompts nor have two equal sides."""
    pairs = pair_facts(version, source)
    assert (pairs["prompt_of_chosen"] == pairs["prompt_id"]).all()
    assert (pairs["prompt_of_rejected"] == pairs["prompt_id"]).all()
    assert (pairs["chosen_text"].str.strip_chars() != pairs["rejected_text"].str.strip_chars()).all()
    assert pairs.select("chosen_id", "rejected_id").is_unique().all()
    assert (pairs["score_margin"] > 0).all()
    return pairs


def test_ledger_of_graded_comparisons_accounts_for_every_judgment(graded: Version, source: Source) -> None:
    assert sum(ledger(graded, "import comparisons").values()) == 90_846
    assert ledger(graded, "import comparisons") == source.outcomes["comparisons"]
    # 40,371 judgments, less 673 of the baseline with itself and 1,346 said twice
    assert ledger(graded, "imported comparisons") == {"rated": 37_496, "dropped_completion": 726, "same_text": 130}
    assert ledger(graded, "select rows") == {"selected": 36_335, "tie": 508}
    assert ledger(graded, "pair hygiene") == {"kept": 36_333, "chosen_equals_rejected": 2}
    assert graded.frame().select(pl.len()).collect().item() == 36_333


def test_defects_of_completions_end_in_outcomes(graded: Version, source: Source) -> None:
    assert ledger(graded, "completion hygiene") == {
        "kept": 149_126, "duplicate": 4_124, "constant": 673, "empty": 98, "mojibake": 66, "leaked_tokens": 58,
    }  # fmt: skip
    dropped = graded.outcomes().filter(pl.col("stage") == "completion hygiene").collect()
    found = dropped.select("id", "outcome").join(source.completions, on="id")
    defect = {outcome: rows for (outcome,), rows in found.group_by("outcome")}
    assert defect["constant"]["model"].unique().to_list() == ["NullModel"]
    assert defect["constant"]["text"].n_unique() == 1
    visible = defect["empty"]["text"].str.strip_chars(" \t\r\n\u200b")
    assert visible.unique().to_list() == [""]
    assert defect["mojibake"]["text"].str.contains("\ufffd|ðŸ").all()
    assert defect["leaked_tokens"]["text"].str.contains(r"</s>|<\|\w+\|>|\[/INST\]").all()
    whole = source.completions.join(found.filter(pl.col("outcome") != "duplicate"), on="id", how="anti")
    repeated = whole.height - whole.select("prompt_id", "text").n_unique()
    assert defect["duplicate"].height == repeated


def test_repeated_outputs_are_one_candidate_with_the_judgments_of_all(source: Source) -> None:
    """3,431 published outputs repeat another model's output for the prompt; what judges said of any of them counts."""
    outputs = table("alpaca_eval/completions")
    assert outputs.height - outputs.select("prompt_id", "output").n_unique() == 3_431
    version = source.build("scored", AGAINST_GPT4 + "select: {kind: top_k_per_prompt, k: 3}")
    assert ledger(version, "imported scores") == {"rated": 37_626, "dropped_completion": 726}
    assert ledger(version, "score") == {"scored": 36_853, "unrated": 149_126 - 36_853}
    assert ledger(version, "select rows") == {"selected": 2_019, "not_selected": 34_834, "unscored": 112_273}
    assert version.frame().collect()["score"].sum() == pytest.approx(1532.631242329166)


def test_chosen_side_is_the_one_that_the_judge_preferred(graded: Version, source: Source) -> None:
    pairs = require_sound(graded, source)
    said = source.comparisons.filter(scorer=WEIGHTED)
    turned = said.select(
        "prompt", preference=1 - pl.col("preference"), text_a="text_b", text_b="text_a"
    )  # fmt: skip
    both = (
        pl.concat([said.select(turned.columns), turned])
        .group_by("prompt", "text_a", "text_b")
        .agg(pl.mean("preference"))
    )
    prompts = source.completions.select("prompt_id", "prompt").unique()
    found = pairs.join(prompts, on="prompt_id").join(
        both, left_on=["prompt", "chosen_text", "rejected_text"], right_on=["prompt", "text_a", "text_b"], how="left"
    )
    assert found["preference"].null_count() == 0
    assert found["preference"].min() > 0.6
    assert ((2 * found["preference"] - 1 - found["score_margin"]).abs() < 2e-9).all()
    assert pairs["score_margin"].sum() == pytest.approx(35032.921993015996, abs=2)  # less the two that equal


def test_judges_side_by_side_count_alike(source: Source) -> None:
    judges = [WEIGHTED, "alpaca_eval_gpt4_turbo_fn", "alpaca_eval_cot_gpt4_turbo_fn"]
    score = "score:\n" + "".join(f"  - {{kind: imported, scorer: {judge}}}\n" for judge in judges)
    version = source.build("side", score + "select: {kind: comparisons, per_prompt: 4}")
    assert ledger(version, "imported comparisons") == {"rated": 49_469, "dropped_completion": 838, "same_text": 159}
    assert ledger(version, "select rows") == {"selected": 2_692, "not_selected": 40_789, "tie": 231}
    pairs = require_sound(version, source)
    assert pairs.group_by("prompt_id").len()["len"].to_list() == [4] * 673
    scores = version.frame().select("chosen_scores", "score_margin").collect().unnest("chosen_scores")
    mean = scores.select(pl.mean_horizontal(judges)).to_series()
    assert ((2 * mean - 1 - scores["score_margin"]).abs() < 2e-9).all()


def test_baselines_are_never_pooled(source: Source) -> None:
    baselines = {"new": "gpt4_1106_preview", "old": "text_davinci_003"}
    score = "score:\n" + "".join(
        f'  - {{kind: imported, scorer: "*", name: {name}, against: {model}}}\n' for name, model in baselines.items()
    )
    version = source.build("baselines", score + "select: {kind: best_vs_worst}")
    # Of the 87,477 comparisons, 50,301 + 37,573 are with one baseline and 1,346 of them with both as the two sides
    assert ledger(version, "imported scores") == {
        "rated": 50_301 + 37_573, "other_baseline": 36_338 + 49_793, "dropped_completion": 838 + 58, "unparsable": 53,
    }  # fmt: skip
    scores = version.candidates()["scores"].struct.unnest()
    assert scores.count().row(0) == (44_344, 35_825)
    assert scores.mean().row(0) == pytest.approx((0.11956581881614727, 0.8028853115694028))


@pytest.mark.parametrize(
    ("strategy", "pairs", "equal", "margins"),
    [
        ("best_vs_worst", 673, 0, 583.7951032859938),
        # The second best of one prompt is the best one but for white space
        ("best_vs_second", 673, 1, 74.31688059795471 - 0.002829432487487793),
        ("all_pairs, per_prompt: 4", 2_692, 0, 2335.172565788),
        ("all_pairs, min_score_margin: 0.99", 44_624, 0, 44499.15740842599),
    ],
)
def test_strategy_gives_the_pairs_counted_beforehand(
    source: Source, strategy: str, pairs: int, equal: int, margins: float
) -> None:
    name = strategy.partition(",")[0] + f"_{pairs}"
    version = source.build(name, AGAINST_GPT4 + f"select: {{kind: {strategy}}}")
    assert ledger(version, "select rows")["selected"] == pairs
    found = require_sound(version, source)
    assert found.height == pairs - equal
    assert found["score_margin"].sum() == pytest.approx(margins)
    scores = version.frame().select("chosen_score", "rejected_score", "score_margin").collect()
    assert ((scores["chosen_score"] - scores["rejected_score"] - scores["score_margin"]).abs() < 2e-9).all()


def test_best_vs_random_rejects_any_lower_completion(source: Source) -> None:
    versions = [
        source.build(f"random{seed}", AGAINST_GPT4 + f"select: {{kind: best_vs_random, seed: {seed}}}")
        for seed in (0, 1)
    ]
    pairs = [require_sound(version, source) for version in versions]
    assert [p.height for p in pairs] == [673, 673]
    assert versions[0].frame().collect()["chosen_score"].sum() == pytest.approx(583.798891876425)
    both = pairs[0].join(pairs[1], on="prompt_id", suffix="_1")
    assert both.height == 673
    assert 0 < (both["rejected_id"] == both["rejected_id_1"]).sum() < 100  # 55 lower ones per prompt: a few by chance


def test_cap_per_source_holds_for_the_parts_of_the_set(source: Source) -> None:
    version = source.build("capped", AGAINST_GPT4 + "select: {kind: best_vs_worst, per_source: 100}")
    counts = version.frame().collect()["source"].value_counts().sort("source").rows()
    assert [(source.removeprefix("alpaca_eval/"), count) for source, count in counts] == [
        ("helpful_base", 100), ("koala", 100), ("oasst", 100), ("selfinstruct", 100), ("vicuna", 69),
    ]  # fmt: skip
    assert ledger(version, "select rows") == {"selected": 469, "over_source_cap": 204}


@pytest.mark.parametrize(
    ("strategy", "outcomes", "scores"),
    [
        ("top_k_overall, k: 1000", {"selected": 1_000, "not_selected": 35_853}, 999.7716802103179),
        ("threshold, desirable_at: 0.5, undesirable_at: 0.1", {"selected": 35_328, "between_thresholds": 1_525}, None),
        ("reward_weights", {"selected": 36_853}, None),
    ],
)
def test_subset_gives_the_completions_counted_beforehand(
    source: Source, strategy: str, outcomes: dict[str, int], scores: float | None
) -> None:
    kind = strategy.partition(",")[0]
    version = source.build(kind, AGAINST_GPT4 + f"select: {{kind: {strategy}}}")
    assert ledger(version, "select rows") == {**outcomes, "unscored": 112_273}
    rows = version.frame().select("prompt_id", "score", "label", "weight").collect()
    if scores is not None:
        assert rows["score"].sum() == pytest.approx(scores)
    if kind == "threshold":
        assert rows["label"].value_counts().sort("label").rows() == [(False, 31_391), (True, 3_937)]
    if kind == "reward_weights":
        assert rows.group_by("prompt_id").agg(pl.sum("weight"))["weight"].to_list() == pytest.approx([1.0] * 673)
