"""The first stage: which tasks of the source a build works on, one per prompt, in the order everything else follows.

Rows are sorted by prompt id, so every later stage sees a prompt's rows together and no result depends on the order of
a file. Numbers (`prompt`) stand for prompt ids from here on; text is gathered again at the end.
"""

import polars as pl

from prefkit.hygiene.config import HygieneConfig
from prefkit.hygiene.outcomes import prompt_outcomes

KEPT = "kept"
OVER_LIMIT = "over_limit"
DUPLICATE = "duplicate"
CONFLICT = "conflicting_answer"


def prompt_stage(tasks: pl.DataFrame, hygiene: HygieneConfig, limit: int | None) -> pl.DataFrame:
    """The tasks sorted by prompt with an `outcome` each: `kept`, a defect, or why another task stands for the prompt.

    Two tasks of one prompt with different answers are both dropped (`conflicting_answer`): which of them is right
    cannot be known, and scoring against the wrong one would mislabel every completion.
    """
    tasks = tasks.sort("prompt_id", "task_id")
    text = pl.col("messages").list.eval(pl.element().struct.field("content")).list.join("\n")
    defects = prompt_outcomes(tasks.select(text=text), hygiene)
    again = (tasks["prompt_id"] == tasks["prompt_id"].shift()).fill_null(value=False)
    several = (
        tasks.filter(again | again.shift(-1, fill_value=False)).group_by("prompt_id").agg(pl.col("answer").n_unique())
    )
    contested = several.filter(pl.col("answer") > 1)["prompt_id"].implode()
    outcome = (
        pl.when(pl.col("defect").is_not_null()).then(pl.col("defect"))
        .when(pl.col("prompt_id").is_in(contested)).then(pl.lit(CONFLICT))
        .when(again).then(pl.lit(DUPLICATE))
        .otherwise(pl.lit(KEPT))
    )  # fmt: skip
    tasks = tasks.with_columns(defect=defects.cast(pl.String)).with_columns(outcome=outcome).drop("defect")
    kept = pl.col("outcome") == KEPT
    if limit is not None:
        over = kept & (kept.cum_sum() > limit)
        tasks = tasks.with_columns(outcome=pl.when(over).then(pl.lit(OVER_LIMIT)).otherwise("outcome"))
    return tasks


def numbered(tasks: pl.DataFrame) -> pl.DataFrame:
    """The kept tasks with their dense number `prompt`, 0 upwards."""
    return tasks.filter(pl.col("outcome") == KEPT).drop("outcome").with_row_index("prompt")
