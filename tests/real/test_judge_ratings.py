"""What judges said: three grades each by a rubric of its own, and single-answer judgments of two turns."""

from collections.abc import Callable

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.real.data import table
from tests.real.sources import Source, ledger, pair_facts, rows_of

Sources = Callable[[str], Source]


def test_rubric_judge_keeps_three_grades_apart(imported: Sources) -> None:
    source = imported("rubric_judge")
    published = pl.concat([table(f"rubric_judge/{name}_eval") for name in ("mt_bench", "vicuna")])
    grades = published.with_columns(repeat=pl.int_ranges(0, 3)).explode("gpt4_scores", "gpt4_feedbacks", "repeat")
    expected = grades.select(
        prompt=pl.col("instruction").str.strip_chars(), model="response_source", score="gpt4_scores",
        rationale="gpt4_feedbacks", repeat=pl.col("repeat").cast(pl.Int32),
    )  # fmt: skip
    found = source.scores.with_columns(pl.col("prompt").str.strip_chars())
    assert_frame_equal(rows_of(found, *expected.columns), rows_of(expected, *expected.columns))
    assert source.outcomes == {
        "prompts": {"imported": 387, "duplicate": 209},
        "completions": {"imported": 596},
        "scores": {"imported": 1_788},
    }
    texts = source.scores.select("text", "rationale").join(
        published.explode("gpt4_feedbacks"), left_on="rationale", right_on="gpt4_feedbacks"
    )
    assert texts.height >= 1_788
    assert texts.select(pl.col("judge_prompt").str.contains(pl.col("text"), literal=True)).to_series().sum() >= 1_788


def test_rubric_judge_averages_the_grades_of_an_answer(imported: Sources) -> None:
    source = imported("rubric_judge")
    version = source.build("rubric", "score: [{kind: imported, scorer: gpt-4}]\nselect: {kind: best_vs_worst}")
    assert ledger(version, "imported scores") == {"rated": 1_788}
    assert ledger(version, "score") == {"scored": 596}
    # In the second turns of a conversation each model has a prompt of its own: with its own first answer
    assert ledger(version, "select") == {"selected": 66, "all_tied": 5, "one_completion": 316}
    assert version.candidates()["score"].sum() == pytest.approx(2_256.6666666666665)
    assert pair_facts(version, source)["score_margin"].sum() == pytest.approx(70.66666666666666)


def test_mt_bench_ratings_are_read_from_the_judgments(imported: Sources) -> None:
    source = imported("mt_bench")
    rows = table("mt_bench/single_judgments")
    expected = rows.select("model", "score", scorer="judge", rationale="judgment")
    assert_frame_equal(rows_of(source.scores, *expected.columns), rows_of(expected, *expected.columns))
    assert source.scores["score"].is_in([8.5, 9.5]).sum() == 2
    assert source.outcomes == {
        "prompts": {"imported": 80 + 2 * 80, "duplicate": 80},  # a second turn follows a model's own first answer
        "completions": {"imported": 320},
        "scores": {"imported": 320},
    }


def test_mt_bench_prompts_are_the_questions_and_what_went_before(imported: Sources) -> None:
    source = imported("mt_bench")
    questions = table("mt_bench/questions").select(
        first=pl.col("turns").list.first(), second=pl.col("turns").list.get(1)
    )
    prompts = source.completions.select("prompt", "model").unique()
    firsts = prompts.join(questions, left_on="prompt", right_on="first", how="semi")
    assert firsts.height == 160
    followed = (
        prompts.join(firsts, on="prompt", how="anti")
        .join(questions, how="cross")
        .filter(pl.col("prompt").str.starts_with(pl.col("first")), pl.col("prompt").str.ends_with(pl.col("second")))
    )
    assert followed.select("prompt", "model").n_unique() == 160


def test_mt_bench_compares_models_where_they_answer_the_same(imported: Sources) -> None:
    source = imported("mt_bench")
    version = source.build("turns", "score: [{kind: imported, scorer: gpt-4}]\nselect: {kind: best_vs_worst}")
    assert ledger(version, "select") == {"selected": 30, "all_tied": 50, "one_completion": 160}
    assert pair_facts(version, source)["score_margin"].sum() == pytest.approx(67.0)
