"""AlpacaEval: 227 models on 673 prompts, judged by six judges against two baselines."""

from collections.abc import Callable

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.real.data import table
from tests.real.sources import Source, oriented, rows_of

JUDGED = ("prompt", "scorer", "model_a", "text_a", "model_b", "text_b", "preference", "failure", "rationale")
WEIGHTED = "weighted_alpaca_eval_gpt4_turbo"


@pytest.fixture(scope="module")
def source(imported: Callable[[str], Source]) -> Source:
    return imported("alpaca_eval")


@pytest.fixture(scope="module")
def judgments() -> pl.DataFrame:
    """Every published judgment with the texts that the judge saw, and the outcome it has by its own right."""
    outputs = table("alpaca_eval/completions").select("prompt_id", "model", stored="output")
    baselines = table("alpaca_eval/baseline_outputs").select(
        "prompt_id", "baseline", baseline_variant="variant", against="output"
    )
    prompts = table("alpaca_eval/prompts").select("prompt_id", prompt="instruction")
    rows = table("alpaca_eval/judgments").join(outputs, on=["prompt_id", "model"], how="left")
    rows = rows.join(baselines, on=["prompt_id", "baseline", "baseline_variant"], how="left")
    return rows.join(prompts, on="prompt_id").with_columns(saw=pl.coalesce("judged_output", "stored")).sort("row")


def outcome_rows(source: Source, outcome: str) -> pl.Series:
    """The rows of the judgments that ended so."""
    return source.refused.filter(what="comparisons", outcome=outcome)["row"].sort()


def test_every_record_of_alpaca_eval_ends_in_one_outcome(source: Source) -> None:
    assert source.outcomes == {
        "prompts": {"imported": 673},
        # 152,762 outputs, 2,001 baseline texts of which 1,346 are an output of that model, 728 texts only judges saw
        "completions": {"imported": 154_145, "duplicate": 1_346},
        "comparisons": {
            "imported": 87_035, "draw": 388, "unparsable": 54,
            "duplicate": 2_019, "same_completion": 1_346, "missing_completion": 4,
        },
    }  # fmt: skip
    assert sum(source.outcomes["comparisons"].values()) == 90_846


def test_judgments_that_are_no_facts_are_the_ones_that_cannot_be(source: Source, judgments: pl.DataFrame) -> None:
    by_row = {name: judgments.filter(pl.col("row").is_in(outcome_rows(source, name).implode())) for name in (
        "missing_completion", "same_completion", "duplicate", "unparsable",
    )}  # fmt: skip
    missing = judgments.filter(pl.col("stored").is_null())
    assert_frame_equal(by_row["missing_completion"], missing)
    itself = judgments.filter(pl.col("model") == pl.col("baseline"), pl.col("saw") == pl.col("against"))
    assert_frame_equal(by_row["same_completion"], itself)
    assert_frame_equal(by_row["unparsable"], judgments.filter(pl.col("preference").is_null()))
    twice = by_row["duplicate"].group_by("model", "annotator").len().sort("model").rows()
    assert twice == [
        ("Mistral-7B-Instruct-v0.2", "alpaca_eval_cot_gpt4_turbo_fn", 673),
        ("vicuna-13b-v1.5", WEIGHTED, 673),
        ("vicuna-7b-v1.5", WEIGHTED, 673),
    ]


def test_facts_are_the_published_judgments_row_by_row(source: Source, judgments: pl.DataFrame) -> None:
    gone = pl.concat([outcome_rows(source, o) for o in ("missing_completion", "same_completion", "duplicate")])
    published = judgments.filter(~pl.col("row").is_in(gone.implode()))
    zero_is_a_draw = pl.when(pl.col("preference") == 0).then(0.5).otherwise(pl.col("preference").cast(pl.Float64) - 1)
    expected = published.select(
        "prompt", scorer="annotator", model_a="model", text_a="saw", model_b="baseline", text_b="against",
        preference=zero_is_a_draw, rationale="explanation",
        failure=pl.when(pl.col("preference").is_null()).then(pl.lit("unparsable")),
    )  # fmt: skip
    assert_frame_equal(rows_of(oriented(source.comparisons), *JUDGED), rows_of(oriented(expected), *JUDGED))


def test_rating_is_of_the_text_that_the_judge_saw(source: Source, judgments: pl.DataFrame) -> None:
    other = judgments.filter(pl.col("judged_output").is_not_null(), pl.col("stored").is_not_null())
    assert (other["judged_output"] != other["stored"]).sum() == 787
    # Of these, gemini-pro's answer to 55 prompts was empty when it was judged, twice each
    assert other.filter(pl.col("judged_output") == "").group_by("model").len().rows() == [("gemini-pro", 110)]
    sides = [source.comparisons.select("prompt", "scorer", model=f"model_{s}", text=f"text_{s}") for s in "ab"]
    rated = pl.concat(sides)
    by_judge = other.select("prompt", "model", "judged_output", "stored", scorer="annotator").unique()
    key = ["prompt", "scorer", "model", "text"]
    assert by_judge.rename({"judged_output": "text"}).join(rated, on=key, how="anti").is_empty()
    assert by_judge.rename({"stored": "text"}).join(rated, on=key, how="semi").is_empty()


def test_graded_preferences_are_facts_to_the_last_bit(source: Source, judgments: pl.DataFrame) -> None:
    between = judgments.filter(pl.col("preference").is_between(1, 2, closed="none"), pl.col("preference") != 1.5)
    assert between.group_by("annotator").len().rows() == [(WEIGHTED, 39_508)]
    again = between.filter(pl.col("row").is_in(outcome_rows(source, "duplicate").implode()))
    assert again.height == 1_339
    kept = source.comparisons.filter(pl.col("preference").is_between(0, 1, closed="none"), pl.col("preference") != 0.5)
    assert kept.height == 39_508 - 1_339
    published = between.join(again, on="row", how="anti")["preference"].cast(pl.Float64) - 1
    turned = pl.col("model_a") == "gpt4_1106_preview"
    stored = kept.select(pl.when(turned).then(1 - pl.col("preference")).otherwise("preference")).to_series()
    assert stored.sort().to_list() == published.sort().to_list()


def test_every_draw_of_the_source_is_accounted_for(source: Source, judgments: pl.DataFrame) -> None:
    draws = judgments.filter(pl.col("preference").is_in([0.0, 1.5]))
    ends = source.refused.filter(what="comparisons").select("row", "outcome").cast({"row": draws.schema["row"]})
    counts = draws.join(ends, on="row", how="left").group_by("preference", "outcome").len()
    assert {(preference, outcome): n for preference, outcome, n in counts.rows()} == {
        (0.0, None): 191, (1.5, None): 197, (1.5, "same_completion"): 1_346, (1.5, "duplicate"): 7,
    }  # fmt: skip
    assert source.comparisons.filter(preference=0.5).height == 191 + 197


def test_completions_are_all_there_with_their_models(source: Source) -> None:
    stored = table("alpaca_eval/completions").join(table("alpaca_eval/prompts"), on="prompt_id")
    stored = stored.select("model", prompt="instruction", text="output")
    assert stored.height == 152_762
    assert stored.join(source.completions, on=["prompt", "model", "text"], how="anti").is_empty()
    counts = source.completions["model"].value_counts().join(stored["model"].value_counts(), on="model", how="full")
    more = counts.filter(pl.col("count") != pl.col("count_right")).select(
        "model", pl.col("count") - pl.col("count_right")
    )
    # Texts that only judges saw, and the baseline texts that are no output of their model
    assert counts.height == 227
    assert sorted(more.rows()) == [("falcon-7b-instruct", 669), ("gemini-pro", 59), ("text_davinci_003", 655)]
