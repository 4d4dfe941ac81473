"""Records of several tables as one frame, and what became of each of them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import polars as pl

from prefkit.sources.outcomes import ImportOutcome
from prefkit.sources.shaped import COMPARISONS, COMPLETIONS, PROMPTS, SCORES, Shaped

What = Literal["prompts", "completions", "scores", "comparisons"]
SCHEMAS: Mapping[What, Mapping[str, pl.DataType]] = {
    "prompts": PROMPTS,
    "completions": COMPLETIONS,
    "scores": SCORES,
    "comparisons": COMPARISONS,
}
OUTCOMES = {"table": pl.Int32(), "what": pl.String(), "row": pl.Int64(), "outcome": pl.String(), "detail": pl.String()}
"""`table` counts the tables of the import from 0."""
EVERYWHERE = -1
"""The scope of prompt keys that hold in every table; the keys of other tables have their table's number as scope."""


def records(tables: Sequence[Shaped], what: What) -> pl.DataFrame:
    """The records of all tables in order, with their `table` and the `scope` of their prompt keys. Texts are shared."""
    parts = [
        _frame(table, what).with_columns(
            pl.lit(number, pl.Int32).alias("table"),
            pl.lit(EVERYWHERE if table.keyed else number, pl.Int32).alias("scope"),
        )
        for number, table in enumerate(tables)
    ]
    return pl.concat(parts) if parts else pl.DataFrame(schema=SCHEMAS[what])


def refused(tables: Sequence[Shaped]) -> pl.DataFrame:
    """The outcomes of what the tables refused themselves."""
    parts = [
        t.refused.with_columns(pl.lit(n, pl.Int32).alias("table")).select(OUTCOMES.keys()) for n, t in enumerate(tables)
    ]
    return pl.concat([pl.DataFrame(schema=OUTCOMES), *parts])


def is_told(table: Shaped) -> bool:
    """Whether a table says more of its prompts than their words: completions, scores or comparisons."""
    return any(not _frame(table, w).is_empty() for w in SCHEMAS if w != "prompts") or (
        not table.refused.filter(pl.col("what") != "prompts").is_empty()
    )


def rates(table: Shaped) -> bool:
    """Whether a table says anything of completions."""
    said = ("scores", "comparisons")
    return any(not _frame(table, w).is_empty() for w in said) or (
        not table.refused.filter(pl.col("what").is_in(said)).is_empty()
    )


def first_of(cases: Iterable[tuple[pl.Expr, ImportOutcome, pl.Expr | None]]) -> tuple[pl.Expr, pl.Expr]:
    """`outcome` and `detail` by the first case that holds; both null where none does."""
    outcome, detail = pl.lit(None, pl.String), pl.lit(None, pl.String)
    for when, case, why in reversed(list(cases)):
        outcome = pl.when(when).then(pl.lit(case.value)).otherwise(outcome)
        detail = pl.when(when).then(pl.lit(None, pl.String) if why is None else why).otherwise(detail)
    return outcome.alias("outcome"), detail.alias("detail")


def same_as(group: str) -> tuple[pl.Expr, pl.Expr]:
    """Whether a row is not the first of its group, and a text that says where that one stands."""
    row, table = pl.col("row").first().over(group), pl.col("table").first().over(group)
    where = (
        pl.when(table == pl.col("table"))
        .then(pl.format("same as row {}", row))
        .otherwise(pl.format("same as row {} of table {}", row, table + 1))
    )
    return ~pl.col(group).is_first_distinct(), where


def _frame(table: Shaped, what: What) -> pl.DataFrame:
    return {
        "prompts": table.prompts,
        "completions": table.completions,
        "scores": table.scores,
        "comparisons": table.comparisons,
    }[what]
