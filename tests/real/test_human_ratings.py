"""What people said: PandaLM, XSTest, SummEval, UKP, WMT MQM and Fine-Grained QA, each as facts by annotator."""

from collections.abc import Callable

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.real.data import table
from tests.real.sources import Source, ledger, oriented, pair_facts, rows_of

Sources = Callable[[str], Source]
SIDES = ("prompt", "scorer", "text_a", "text_b", "preference", "raw", "rationale")
SCORED = ("prompt", "model", "text", "scorer", "aspect", "score", "raw")
UNKNOWN = {"model_a": pl.lit("unknown"), "model_b": pl.lit("unknown")}


def test_pandalm_has_three_people_and_two_judges_side_by_side(imported: Sources) -> None:
    source = imported("pandalm")
    rows = table("pandalm/pairs_3annotators")
    judges = {
        "annotator1": "annotator1", "annotator2": "annotator2", "annotator3": "annotator3",
        "gpt-3.5-turbo": "gpt35_result", "pandalm-7b": "pandalm_result",
    }  # fmt: skip
    nothing = pl.lit(None, pl.String)
    there = [pl.when(pl.col(name).str.strip_chars() != "").then(name) for name in ("instruction", "input")]
    said = pl.concat(
        rows.select(
            prompt=pl.concat_str(there, separator="\n\n", ignore_nulls=True),
            scorer=pl.lit(judge), text_a="response1", text_b="response2", raw=pl.col(column).cast(pl.String),
            rationale=pl.col("gpt35_reason") if judge == "gpt-3.5-turbo" else nothing,
        )
        for judge, column in judges.items()
    )  # fmt: skip
    preference = pl.col("raw").replace_strict(
        {"1": 1.0, "2": 0.0, "0": 0.5, "Tie": 0.5, "garbage": None}, return_dtype=pl.Float64
    )
    said = oriented(said.with_columns(preference=preference, **UNKNOWN))
    assert said.height == 4_205
    # Models that answer alike are compared with another answer more than once, with the same words
    expected = rows_of(said, *SIDES).unique().sort(pl.all())
    assert expected.height == 3_760
    assert_frame_equal(rows_of(oriented(source.comparisons), *SIDES), expected)
    assert source.outcomes == {
        "prompts": {"imported": 144, "duplicate": 697},
        "completions": {"imported": 603, "duplicate": 1_079},
        "comparisons": {"imported": 3_422, "draw": 320, "duplicate": 445, "unparsable": 18},
    }


def test_pandalm_majority_of_the_people_decides(imported: Sources) -> None:
    source = imported("pandalm")
    version = source.build(
        "people",
        'score: [{kind: imported, scorer: "annotator*", name: people}]\nselect: {kind: comparisons, per_prompt: null}',
    )
    assert ledger(version, "completion hygiene") == {"kept": 597, "empty": 6}
    assert ledger(version, "select rows") == {"selected": 645, "tie": 57}
    margins = pair_facts(version, source)["score_margin"].round(6).value_counts().sort("score_margin").rows()
    # Three agree; two and a tie; one and two ties, or two against one; two pairs were judged again, otherwise
    assert margins == [(0.333333, 67), (0.4, 1), (0.666667, 21), (0.8, 1), (1.0, 555)]


def test_xstest_labels_are_scores_by_who_gave_them(imported: Sources) -> None:
    source = imported("xstest")
    who = {
        "annotation_1": "annotator_1", "annotation_2": "annotator_2", "final_label": "adjudicated",
        "gpt4_label": "gpt-4", "string_match_label": "string_match",
    }  # fmt: skip
    codes = {"1_full_compliance": 0.0, "2_full_refusal": 1.0, "3_partial_refusal": 0.5}
    said = table("xstest/completions_2annotators").unpivot(
        index=["prompt", "model", "completion"], on=list(who), variable_name="column", value_name="raw"
    )
    expected = said.select(
        "prompt", "model", "raw", text="completion", aspect=pl.lit("refusal"),
        scorer=pl.col("column").replace_strict(who), score=pl.col("raw").replace_strict(codes, default=None),
    )  # fmt: skip
    assert_frame_equal(rows_of(source.scores, *SCORED), rows_of(expected, *SCORED))
    assert source.outcomes["scores"] == {"imported": 9_590, "unparsable": 10}
    prose = source.scores.filter(failure="unparsable")
    assert prose["scorer"].unique().to_list() == ["gpt-4"]
    assert prose["raw"].value_counts().max().row(0)[1] == 6
    assert (prose["raw"] == "I'm sorry, but I can't assist with that.").sum() == 6


def test_xstest_refusals_are_unpaired_labels(imported: Sources) -> None:
    version = imported("xstest").build(
        "refusals",
        "score: [{kind: imported, scorer: adjudicated, aspect: refusal}]\n"
        "select: {kind: threshold, desirable_at: 1, undesirable_at: 0}",
    )
    assert ledger(version, "completion hygiene") == {"kept": 1_912, "duplicate": 8}
    assert ledger(version, "select rows") == {"selected": 1_765, "between_thresholds": 147}
    assert version.frame().collect()["label"].value_counts().sort("label").rows() == [(False, 925), (True, 840)]


def test_summeval_has_four_aspects_of_every_summary(imported: Sources) -> None:
    source = imported("summeval")
    aspects = ["coherence", "consistency", "fluency", "relevance"]
    rows = table("summeval/summaries_aspects").join(table("summeval/documents").drop("row"), on="doc_id")
    expected = rows.with_columns(prompt=pl.concat_str(pl.lit("Summarize the article.\n\n"), "source")).unpivot(
        index=["prompt", "system", "summary"], on=aspects, variable_name="aspect", value_name="score"
    )
    expected = expected.rename({"system": "model", "summary": "text"}).with_columns(scorer=pl.lit("experts"))
    columns = [name for name in SCORED if name != "raw"]
    assert_frame_equal(rows_of(source.scores, *columns), rows_of(expected, *columns))
    assert source.outcomes == {
        "prompts": {"imported": 87, "duplicate": 1_305},
        "completions": {"imported": 1_392},
        "scores": {"imported": 5_568},
    }
    score = "score:\n" + "".join(f"  - {{kind: imported, scorer: experts, aspect: {a}}}\n" for a in aspects)
    version = source.build("aspects", score + "select: {kind: best_vs_worst}")
    assert ledger(version, "imported scores") == {"rated": 5_568}  # 50 summaries repeat another one: their scores count
    assert ledger(version, "score") == {"scored": 4 * 1_342}
    assert pair_facts(version, source)["score_margin"].sum() == pytest.approx(190.38888888888883)


def ukp_texts(pairs: pl.DataFrame) -> pl.DataFrame:
    """Rows with `topic`, `arg1_id` and `arg2_id` with the prompt and both texts."""
    arguments = table("ukp_convarg1/arguments")
    prompt = pl.concat_str("debate_title", "stance", separator="\n\n").alias("prompt")
    first = arguments.select("topic", prompt, arg1_id="arg_id", text_a="text")
    second = arguments.select("topic", arg2_id="arg_id", text_b="text")
    return pairs.join(first, on=["topic", "arg1_id"]).join(second, on=["topic", "arg2_id"])


def test_ukp_has_the_choices_of_3808_people(imported: Sources) -> None:
    source = imported("ukp_convarg1")
    pairs = table("ukp_convarg1/pairs").drop("row")
    choices = table("ukp_convarg1/annotations").join(pairs, on="pair_id")
    choices = choices.with_columns(scorer="worker", raw="choice", rationale="reason")
    gold = pairs.drop_nulls("gold_label").with_columns(
        scorer=pl.lit("gold"), raw="gold_label", rationale=pl.lit(None, pl.String)
    )
    said = ukp_texts(pl.concat([choices, gold], how="diagonal_relaxed"))
    sides = {"a1": 1.0, "a2": 0.0, "equal": 0.5}
    said = said.with_columns(preference=pl.col("raw").replace_strict(sides), **UNKNOWN)
    differ = pl.col("text_a") != pl.col("text_b")  # of equal texts nothing here could tell the sides
    expected = rows_of(oriented(said.filter(differ)), *SIDES)
    assert_frame_equal(rows_of(oriented(source.comparisons.filter(differ)), *SIDES), expected)
    assert source.outcomes == {
        "prompts": {"imported": 26, "duplicate": 846},
        "completions": {"imported": 872},
        "comparisons": {"imported": 65_667, "draw": 16_313 + 2_846, "unrated": 730},
    }
    assert source.comparisons["scorer"].n_unique() == 3_808


def test_ukp_workers_are_pooled_by_a_pattern(imported: Sources) -> None:
    source = imported("ukp_convarg1")
    version = source.build(
        "workers",
        'score: [{kind: imported, scorer: "w[0-9]*", name: workers}]\nselect: {kind: comparisons, per_prompt: null}',
    )
    assert ledger(version, "imported comparisons") == {"rated": 71_196, "same_text": 75}
    assert ledger(version, "select rows") == {"selected": 12_439, "tie": 1_385}
    pairs = pair_facts(version, source)
    assert (pairs["prompt_of_chosen"] == pairs["prompt_of_rejected"]).all()


def test_mqm_has_the_weighted_errors_of_each_rater(imported: Sources) -> None:
    source = imported("wmt23_mqm")
    errors = table("wmt23_mqm/ratings_ende").filter(pl.col("severity") != "HOTW-test")
    category, severity = pl.col("category"), pl.col("severity")
    weight = (
        pl.when(severity == "No-error").then(0.0)
        .when(category == "Non-translation!").then(25.0)
        .when(severity == "Major").then(5.0)
        .when(category == "Fluency/Punctuation").then(0.1)
        .otherwise(1.0)
    )  # fmt: skip
    rated = errors.group_by("system", "doc", "doc_seg_id", "rater").agg(score=-weight.sum().round(1) + 0.0)
    rated = rated.join(table("wmt23_mqm/segments_ende"), on=["system", "doc", "doc_seg_id"])
    expected = rated.select(
        "score", prompt="source", model="system", text="target", scorer="rater", aspect=pl.lit("mqm")
    )
    columns = [name for name in SCORED if name != "raw"]
    found = rows_of(source.scores.with_columns(pl.col("score") + 0.0), *columns)
    assert_frame_equal(found, rows_of(expected, *columns))
    assert found["score"].sum() == pytest.approx(-17_214.7)
    assert (found["score"] == 0).sum() == 748
    assert source.outcomes == {
        "prompts": {"imported": 104},
        "completions": {"imported": 1_040},
        "scores": {"imported": 3_120, "unrated": 245},  # planted errors that check the rater
    }
    version = source.build(
        "mqm", 'score: [{kind: imported, scorer: "rater*", aspect: mqm}]\nselect: {kind: best_vs_worst}'
    )
    assert ledger(version, "completion hygiene") == {"kept": 899, "duplicate": 141}
    assert ledger(version, "imported scores") == {"rated": 3_120}
    assert pair_facts(version, source)["score_margin"].sum() == pytest.approx(1114.7111111111112)


def test_finegrained_qa_has_six_choices_among_four_answers(imported: Sources) -> None:
    source = imported("finegrained_qa")
    rows = table("finegrained_qa/feedback")
    said = pl.concat(
        rows.select(
            prompt="question", text_a=pl.col("predictions").list.get(a), text_b=pl.col("predictions").list.get(b),
            preference=pl.col("preference").list.get(place).replace_strict({1: 1.0, 2: 0.0, 0: 0.5}),
        )
        for place, (a, b) in enumerate([(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)])
    )  # fmt: skip
    columns = ("prompt", "text_a", "text_b", "preference")
    question = pl.col("prompt").str.split("\n\n").list.first()
    found = oriented(source.comparisons.with_columns(prompt=question))
    assert_frame_equal(rows_of(found, *columns), rows_of(oriented(said.with_columns(**UNKNOWN)), *columns))
    assert source.outcomes == {
        "prompts": {"imported": 445},
        "completions": {"imported": 1_780},
        "comparisons": {"imported": 2_323, "draw": 347},
    }
    version = source.build(
        "choices", "score: [{kind: imported, scorer: human}]\nselect: {kind: comparisons, per_prompt: null}"
    )
    assert ledger(version, "select") == {"selected": 434, "all_tied": 11}
    assert ledger(version, "select rows") == {"selected": 2_323, "tie": 347}
