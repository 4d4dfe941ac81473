"""The prompts of a table: cells, what rows call them, and what stands beside them.

Rows that repeat a prompt each give it, under their own number: equal prompts meet when they are linked.
"""

from collections.abc import Mapping

import polars as pl

from prefkit.sources.adapters.columns import cells_of, text_of
from prefkit.sources.columns import first_refusal
from prefkit.sources.rows import SourceRows


def row_keys(rows: SourceRows) -> pl.Series:
    """A name for the prompt of each row that holds within the table: the row's number."""
    return rows.numbers.cast(pl.String).alias("key")


def row_prompts(rows: SourceRows, column: str) -> pl.DataFrame:
    """`row`, `key`, `kind` and `text` of the prompt in each row."""
    return cells_of(rows, column).with_columns(row_keys(rows), row=rows.numbers)


def with_fields(rows: SourceRows, prompts: pl.DataFrame, columns: Mapping[str, str]) -> pl.DataFrame:
    """The prompts (one per row of the file) with text fields from columns; null where the file lacks the column.

    A field that is neither text nor a number makes the prompt malformed.
    """
    fields = {field: text_of(rows, column) for field, column in columns.items()}
    return also_refused(prompts, *fields.values()).with_columns(
        found["text"].alias(field) for field, found in fields.items()
    )


def also_refused(frame: pl.DataFrame, *others: pl.DataFrame) -> pl.DataFrame:
    """The frame with the first `outcome` and `detail` that it or the others have for a row."""
    verdicts = [frame, *others] if "outcome" in frame.columns else list(others)
    return frame.with_columns(first_refusal(verdicts).get_columns())
