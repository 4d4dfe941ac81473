"""Rows that hold one prompt and two completions: the records that every such shape has in common.

A row gives both its completions, in the slots `a` and `b`, however often the file repeats them.
"""

from typing import NamedTuple

import polars as pl

from prefkit.sources.adapters.frames import reference

PAIR = ("prompt", "a", "b")
"""Names of the cells of a row."""


class PairRecords(NamedTuple):
    """What rows of two completions hold besides the judgment."""

    prompts: pl.DataFrame
    completions: pl.DataFrame
    pairs: pl.DataFrame
    """`row`, `prompt`, the references `a` and `b`, `outcome` and `detail`: one row per row of the file."""


def pair_records(rows: pl.DataFrame) -> PairRecords:
    """Records of rows with `row`, the cells of `PAIR`, `model_a`, `model_b`, `outcome` and `detail`.

    A row with an outcome is refused whole: its prompt, both completions and the comparison.
    """
    keyed = rows.with_columns(prompt=pl.col("row").cast(pl.String))
    sides = [
        keyed.select(
            "row",
            "prompt",
            "outcome",
            "detail",
            slot=pl.lit(side),
            model=f"model_{side}",
            kind=f"{side}_kind",
            text=f"{side}_text",
        )
        for side in ("a", "b")
    ]
    about = [reference(slot=pl.lit(side)).alias(side) for side in ("a", "b")]
    return PairRecords(
        keyed.select("row", "outcome", "detail", key="prompt", kind="prompt_kind", text="prompt_text"),
        pl.concat(sides).sort("row", maintain_order=True),
        keyed.select("row", "prompt", "outcome", "detail", *about),
    )
