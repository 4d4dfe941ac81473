"""The rows that did not come all the way: collected stage by stage, written beside the version's data.

Candidate pairs and completions that are `not_selected` are counted in the ledger but not listed here: they are the
natural complement of what was selected, and there may be far more of them than of everything else.
"""

from dataclasses import dataclass, field

import polars as pl
import pyarrow as pa

from prefkit.records import ID

SCHEMA = pa.schema(
    [("stage", pa.string()), ("outcome", pa.string()), ("id", ID), ("prompt_id", ID), ("detail", pa.string())]
)
"""`id` is what the stage counts: a task, draw, completion, label (null before its first try), prompt or pair."""


@dataclass(slots=True)
class Dropped:
    """What was dropped, in the order of the stages."""

    frames: list[pl.DataFrame] = field(default_factory=list[pl.DataFrame])

    def add(self, stage: str, rows: pl.DataFrame) -> None:
        """Adds rows with `outcome`, `id`, `prompt_id` and, where there is more to tell, `detail`."""
        detail = (
            pl.col("detail").cast(pl.String) if "detail" in rows.columns else pl.lit(None, pl.String).alias("detail")
        )
        columns = [pl.lit(stage).alias("stage"), pl.col("outcome").cast(pl.String), "id", "prompt_id", detail]
        if rows.height:
            self.frames.append(rows.select(columns))

    def table(self) -> pa.Table:
        """All of them, as they are stored."""
        if not self.frames:
            return SCHEMA.empty_table()
        return pl.concat(self.frames).to_arrow(compat_level=pl.CompatLevel.oldest()).cast(SCHEMA)


def with_prompt_id(rows: pl.DataFrame, tasks: pl.DataFrame) -> pl.DataFrame:
    """Rows of prompt numbers with the prompts' ids."""
    return rows.with_columns(prompt_id=tasks["prompt_id"].gather(rows["prompt"]))
