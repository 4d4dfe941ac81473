"""Completion hygiene, and the candidates: the completions that may be scored and selected, numbered."""

import polars as pl

from prefkit.hygiene.config import HygieneConfig
from prefkit.hygiene.outcomes import completion_outcomes
from prefkit.pipeline.draws import SAMPLED

KEPT = "kept"
DRAW_COLUMNS = (pl.col("completion").list.last().struct.field("content").alias("text"), pl.col("finish_reason"))
"""What of a draw hygiene looks at: the text of its last message, and why it ended."""


def cleaned(draws: pl.DataFrame, hygiene: HygieneConfig) -> pl.DataFrame:
    """The sampled completions with a hygiene `outcome`; `draws` are sorted by prompt, block and index."""
    sampled = draws.filter(pl.col("outcome") == SAMPLED)
    defects = completion_outcomes(sampled.select("prompt", "text", "finish_reason"), hygiene)
    return sampled.with_columns(outcome=defects.cast(pl.String).fill_null(KEPT))


def candidates_of(completions: pl.DataFrame) -> pl.DataFrame:
    """The kept completions with their dense number `candidate`, 0 upwards."""
    return completions.filter(pl.col("outcome") == KEPT).drop("outcome").with_row_index("candidate")
