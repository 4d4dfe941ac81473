import math

import polars as pl

from prefkit.pipeline.training.rewards import reward_sums

SCORED = pl.Struct({"math": pl.Float64, "style": pl.Float64})


def candidates(*rows: tuple[int, str, float | None, dict[str, float | None]]) -> pl.DataFrame:
    """Number of the prompt, text, score, scores per aspect."""
    frame = pl.DataFrame(
        rows, schema={"prompt": pl.UInt32, "text": pl.String, "score": pl.Float64, "scores": SCORED}, orient="row"
    )
    return frame.with_columns(prompt_id=pl.col("prompt").cast(pl.String).cast(pl.Binary))


def test_reward_sums_are_of_all_candidates_by_source_and_aspect() -> None:
    given = candidates(
        (0, "a", 1.0, {"math": 1.0, "style": 2.0}),
        (0, "b", 0.0, {"math": 0.0, "style": 4.0}),
        (1, "a", 0.5, {"math": 0.5, "style": None}),
        (1, "b", None, {"math": None, "style": 1.0}),
        (2, "a", math.nan, {"math": 1.0, "style": 0.0}),
    )
    assert reward_sums(given, pl.Series(["a", "b", "a"]), given) == {
        "reward": (1.5, 3),
        "reward/a": (1.0, 2),
        "reward/b": (0.5, 1),
        "reward_aspect/math": (2.5, 4),
        "reward_aspect/style": (7.0, 4),
    }


def test_candidate_counts_for_every_draw_that_said_the_same() -> None:
    drawn = candidates(*[(0, text, float(text == "right"), {"math": None, "style": None}) for text in
                         ("right", "wrong", "right", "right")])  # fmt: skip
    apart = reward_sums(drawn, pl.Series(["a"]), drawn)
    once = reward_sums(drawn.unique("text", maintain_order=True), pl.Series(["a"]), drawn)
    assert once == apart == {"reward": (3.0, 4.0), "reward/a": (3.0, 4.0)}


def test_completions_that_are_only_compared_have_no_reward() -> None:
    given = candidates((0, "a", None, {"math": None, "style": None}))
    assert reward_sums(given, pl.Series(["a"]), given) == {}
