"""The math verifier on real solutions: GSM8K with plain numbers, MATH with LaTeX, against the sources' own labels."""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from prefkit.scoring.config import MathVerifier
from prefkit.scoring.math import MathScorer
from prefkit.scoring.protocol import Score, ScoreFailure, ScoreRequest
from tests.real.data import table
from tests.real.sources import Source, ledger

RECIPE = """\
completions: {exclude: [human]}
score: [{kind: verifier, name: math}]
select: {kind: correct_vs_incorrect, per_prompt: 4}
hygiene: {duplicates: "off", empty: false, mojibake: false, leaked_tokens: false, constant: null}
"""


def verdicts(source: Source, problems: pl.DataFrame, solutions: pl.DataFrame) -> pl.DataFrame:
    """The published solutions with the verifier's `score` (null: undecided), what it `extracted`, and the `gold`."""
    judged = source.scores.filter(aspect="math").select("prompt", "model", "score", "rationale", solution="text")
    gold = pl.coalesce(pl.col("^(final|gold)_answer$"))
    asked = problems.select("problem_id", pl.coalesce(pl.col("^(question|problem)$")).alias("prompt"), gold=gold)
    found = solutions.join(asked, on="problem_id").join(
        judged.unique(["prompt", "model", "solution"]), on=["prompt", "model", "solution"], how="left"
    )
    return found.with_columns(extracted=pl.col("rationale").str.extract(r"(?s)^extracted (.*), gold ")).sort("row")


def agreement(found: pl.DataFrame) -> dict[str, tuple[int, int]]:
    """Per model, how many solutions the source labelled, and on how many of them the verifier agrees."""
    labelled = found.drop_nulls("is_correct")
    same = ((pl.col("score") == 1) == pl.col("is_correct")).fill_null(value=False)
    counts = labelled.group_by("model").agg(pl.len(), same.sum().alias("same"))
    return {model: (n, same) for model, n, same in counts.iter_rows()}


def classes(found: pl.DataFrame, tests: dict[str, pl.Expr]) -> dict[str, int]:
    """How many rows each test is the first to hold for."""
    named = pl.coalesce([pl.when(test).then(pl.lit(name)) for name, test in tests.items()])
    return dict(found.with_columns(why=named).group_by("why").len().iter_rows())


@pytest.fixture(scope="module")
def gsm8k(imported: Callable[[str], Source]) -> Source:
    return imported("gsm8k")


@pytest.fixture(scope="module")
def gsm8k_verdicts(gsm8k: Source) -> pl.DataFrame:
    version = gsm8k.build("gsm8k", RECIPE)
    assert ledger(version, "score") == {"scored": 13_800}
    assert ledger(version, "imported completions") == {"imported": 13_800, "other_model": 7_541}
    return verdicts(gsm8k, table("gsm8k/problems"), table("gsm8k/test_solutions"))


@pytest.fixture(scope="module")
def math(imported: Callable[[str], Source]) -> Source:
    return imported("math")


@pytest.fixture(scope="module")
def math_verdicts(math: Source) -> pl.DataFrame:
    version = math.build("math", RECIPE)
    assert ledger(version, "score") == {"scored": 2_378, "undecided": 2}
    return verdicts(math, table("math/problems"), table("math/solutions"))


def test_gsm8k_is_imported_whole(gsm8k: Source) -> None:
    assert gsm8k.outcomes == {
        "prompts": {"imported": 7_541},
        "completions": {"imported": 7_541 + 13_800},
        "scores": {"imported": 11_500, "unrated": 2_300},  # one source has no labels
    }


def test_gsm8k_verdicts_agree_with_the_sources_labels(gsm8k_verdicts: pl.DataFrame) -> None:
    assert agreement(gsm8k_verdicts) == {
        "175b_finetuning": (1_150, 1_150),
        "175b_verification": (1_150, 1_150),
        "6b_finetuning": (1_150, 1_150),
        "6b_verification": (1_150, 1_150),
        "gpt-4-1106-preview": (1_150, 1_117),
        "mistralai/Mixtral-8x7B-Instruct-v0.1": (1_150, 1_140),
        "rho-math-1b-interpreter-v0.1": (1_150, 1_146),
        "rho-math-1b-v0.1": (1_150, 1_144),
        "rho-math-7b-interpreter-v0.1": (1_150, 1_145),
        "rho-math-7b-v0.1": (1_150, 1_138),
    }
    right = gsm8k_verdicts.filter(pl.col("is_correct").is_null()).group_by("model").agg(pl.sum("score"))
    assert dict(right.iter_rows()) == {"tora-70b-v1.0": 969, "tora-code-34b-v1.0": 928}


def test_gsm8k_solutions_right_only_for_the_verifier_fall_into_these_classes(gsm8k_verdicts: pl.DataFrame) -> None:
    found = gsm8k_verdicts.filter(pl.col("score") == 1, ~pl.col("is_correct"))
    taken, solution = pl.col("extracted_answer"), pl.col("solution")
    assert classes(
        found,
        {
            "cents: the source compares 75.00 with 75 as text": pl.col("extracted").str.ends_with(".00"),
            "equation: the source takes 30-16=14 for the answer": taken.str.contains("="),
            "unit: the source takes 5bags for the answer": taken.str.contains("^[0-9]+[a-z]+$"),
            "cut off: the text ends within a calculation whose value is right": solution.str.contains(r"<<[^>]*$"),
            "time of day": solution.str.contains("2:00 pm"),
            "another number stands last: 16 people chose horse #12": solution.str.contains("#12"),
        },
    ) == {
        "cents: the source compares 75.00 with 75 as text": 31,
        "equation: the source takes 30-16=14 for the answer": 7,
        "unit: the source takes 5bags for the answer": 4,
        "cut off: the text ends within a calculation whose value is right": 3,
        "time of day": 2,
        "another number stands last: 16 people chose horse #12": 2,
    }


def test_gsm8k_solutions_right_only_for_the_source_fall_into_these_classes(gsm8k_verdicts: pl.DataFrame) -> None:
    found = gsm8k_verdicts.filter(pl.col("score") == 0, pl.col("is_correct"))
    ratio = pl.col("extracted").cast(pl.Float64, strict=False) / pl.col("gold").cast(pl.Float64)
    near = {name: (ratio - value).abs() < 1e-9 for name, value in (("-", -1), ("*", 100), ("/", 0.01), (".", 0.1))}
    assert classes(
        found,
        {
            "hundredfold: dollars for cents, or a share for per cent": near["*"] | near["/"],
            "percent sign: math-verify does not read 35.0\\% as 35": pl.col("extracted").str.ends_with("\\%"),
            "sign: -54 miles for 54": near["-"],
            "point: 0.5 for 5": near["."],
            "rounding: 7.8 for 8": (ratio - 1).abs() < 0.05,
            "another number stands last: costs $3 more for a mixture with 1/3 pound": pl.col("extracted") == "1/3",
        },
    ) == {
        "hundredfold: dollars for cents, or a share for per cent": 11,
        "percent sign: math-verify does not read 35.0\\% as 35": 5,
        "sign: -54 miles for 54": 2,
        "point: 0.5 for 5": 1,
        "rounding: 7.8 for 8": 1,
        "another number stands last: costs $3 more for a mixture with 1/3 pound": 1,
    }


def test_math_is_imported_with_every_sample(math: Source) -> None:
    assert math.outcomes == {
        "prompts": {"imported": 4_247},
        "completions": {"imported": 4_247 + 2_380},
        "scores": {"imported": 2_380 + 688, "unrated": 2_380 - 688},  # a reward model's scores of one model only
    }


def test_math_verdicts_agree_with_the_sources_labels(math_verdicts: pl.DataFrame) -> None:
    assert agreement(math_verdicts) == {
        "math_cot_100 (model not named)": (688, 687),
        "rho-math-1b-interpreter-v0.1": (423, 419),
        "rho-math-1b-v0.1": (423, 407),
        "rho-math-7b-interpreter-v0.1": (423, 420),
        "rho-math-7b-v0.1": (423, 420),
    }
    undecided = math_verdicts.filter(pl.col("score").is_null())
    assert undecided.select("problem_id", "is_correct").sort("problem_id").rows() == [
        ("math-3022", False), ("math-4500", False),
    ]  # fmt: skip


def test_math_disagreements_fall_into_these_classes(math_verdicts: pl.DataFrame) -> None:
    decided = math_verdicts.drop_nulls("score")
    found = decided.filter((pl.col("score") == 1) != pl.col("is_correct"))
    taken, extracted, gold = pl.col("extracted_answer"), pl.col("extracted"), pl.col("gold")
    right = pl.col("score") == 1
    assert classes(
        found,
        {
            "the source takes the closing words with the answer": right & taken.str.contains("hopeitis|FinalAnswer"),
            "the source takes one of several boxes": right & extracted.str.contains(" and "),
            "the answer is the last side of an equation": right & extracted.str.contains("[a-z0-9]=[0-9]"),
            "equal in another form": right & (extracted.str.len_chars() > 2),
            "no answer is given, and a number on the way is the right one": right,
            "the source takes an incomplete answer for right": gold == "1,-2",
            "the text breaks off": extracted.is_null() & (gold == "3"),
            "an answer in words": extracted.is_null(),
            "math-verify does not read the answer": extracted.is_not_null(),
        },
    ) == {
        "the source takes the closing words with the answer": 7,
        "the source takes one of several boxes": 2,
        "the answer is the last side of an equation": 2,
        "equal in another form": 4,
        "no answer is given, and a number on the way is the right one": 3,
        "the source takes an incomplete answer for right": 2,
        "the text breaks off": 1,
        "an answer in words": 1,
        "math-verify does not read the answer": 3,
    }


def spin() -> None:
    while True:
        pass


@contextmanager
def busy(processes: int) -> Iterator[None]:
    context = multiprocessing.get_context("spawn")
    spinning = [context.Process(target=spin, daemon=True) for _ in range(processes)]
    for process in spinning:
        process.start()
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.join()


def test_labels_are_the_same_on_an_idle_and_on_a_loaded_machine() -> None:
    gold = table("math/problems").select("problem_id", "gold_answer")
    rows = table("math/solutions").join(gold, on="problem_id").sort("row").gather_every(24)
    requests = [
        ScoreRequest(number.to_bytes(16, "big"), "math", 0, [], text, {"answer": answer})
        for number, text, answer in rows.select("row", "solution", "gold_answer").iter_rows()
    ]
    idle = labels(requests)
    with busy(4):
        loaded = labels(requests)
    assert len(idle) == 100
    assert loaded == idle


def labels(requests: list[ScoreRequest]) -> dict[bytes, Score | ScoreFailure]:
    scorer = MathScorer.open(MathVerifier(kind="verifier", name="math", workers=2), Path())
    try:
        return {row.completion_id: row for batch in scorer.score(requests) for row in batch}
    finally:
        scorer.close()
