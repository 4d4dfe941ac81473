"""Fine-Grained RLHF's QA feedback: `question`, `predictions`, `preference`, and `passages` where there are any.

The prompt is the question with the passages below it, since the answers were written and judged with both at hand: each
passage is its title and its sentences. A `gold` text is the prompt's answer. Prediction k is the slot k of its row; no
model is named. `preference` holds one human choice for each pair in the order (1,2), (1,3), ..., (2,3), ...: 1 prefers
the first, 2 the second, 0 is a draw. They are comparisons by the scorer `human`, in unknown order.

The set does not document the order of the pairs; in this one no row prefers in a circle. A list of another length than
there are pairs has no reading: all comparisons of that row are malformed. A null choice is unrated, another number
unparsable. Span errors, missing facts and corrected answers are not read.
"""

import json
from itertools import combinations
from typing import cast

import polars as pl

from prefkit.sources.adapters.columns import cells_of, require_columns
from prefkit.sources.adapters.frames import preferred, reference, shape
from prefkit.sources.adapters.nested import ITEM, list_items
from prefkit.sources.adapters.prompts import row_keys, with_fields
from prefkit.sources.config import ComparisonFields
from prefkit.sources.rows import MALFORMED, SourceRows
from prefkit.sources.shaped import OVERALL, Shaped

SCORER = "human"
_CHOICE = ComparisonFields(scorer=f"={SCORER}", preference="preference", scale=(2.0, 1.0), values={"0": "tie"})


def finegrained_qa(rows: SourceRows) -> Shaped:
    """Several completions per row, and a comparison for every pair of them."""
    require_columns(rows, "finegrained_qa", ("question", "predictions", "preference"))
    prompts = _prompts(rows).with_columns(row_keys(rows), row=rows.numbers)
    keys = prompts.select("row", prompt="key")
    opened = list_items(rows, "predictions")
    completions = pl.concat([cells_of(opened.table, ITEM), opened.places.select("row", slot="place")], how="horizontal")
    comparisons = _choices(rows, opened.places).join(keys, on="row", how="left", maintain_order="left")
    return shape(
        rows,
        prompts=with_fields(rows, prompts, {"answer": "gold"}),
        completions=pl.concat(
            [completions.join(keys, on="row", how="left"), opened.missing, opened.broken], how="diagonal"
        ),
        comparisons=preferred(comparisons, _CHOICE),
    )


def _choices(rows: SourceRows, predictions: pl.DataFrame) -> pl.DataFrame:
    """One row per choice, with the two places it is about; one refused row where the list does not fit."""
    opened = list_items(rows, "preference")
    found = pl.concat([opened.places.select("row", "place"), cells_of(opened.table, ITEM)], how="horizontal")
    counts = predictions.group_by("row").len("predictions")
    choices = found.join(counts, on="row", how="left", maintain_order="left").with_columns(
        pl.col("predictions").fill_null(0).cast(pl.Int64), given=pl.len().over("row")
    )
    expected = pl.col("predictions") * (pl.col("predictions") - 1) // 2
    fits = pl.col("given") == expected
    detail = pl.format("{} choices, expected {} for {} predictions", "given", expected, "predictions")
    misfits = choices.filter(~fits).unique("row", keep="first", maintain_order=True)
    pairs = choices.filter(fits).join(_pairs(choices["predictions"]), on=["predictions", "place"], how="left")
    about = pairs.sort("row", "place").with_columns(
        reference(slot=pl.col("first")).alias("a"),
        reference(slot=pl.col("second")).alias("b"),
        outcome=pl.lit(None, pl.String()),
        scorer=pl.lit(SCORER),
        aspect=pl.lit(OVERALL),
        order=pl.lit("unknown"),
    )
    refused = misfits.select("row", outcome=pl.lit(MALFORMED), detail=detail)
    return pl.concat([about, refused, opened.missing, opened.broken], how="diagonal")


def _pairs(predictions: pl.Series) -> pl.DataFrame:
    """`first` and `second` of every `place` in a list of choices, by the number of predictions."""
    pairs = [
        (count, place, first, second)
        for count in predictions.unique().to_list()
        for place, (first, second) in enumerate(combinations(range(count), 2))
    ]
    return pl.DataFrame(
        pairs, schema=dict.fromkeys(("predictions", "place", "first", "second"), pl.Int64()), orient="row"
    )


def _prompts(rows: SourceRows) -> pl.DataFrame:
    found = zip(cells_of(rows, "question").iter_rows(), cells_of(rows, "passages").iter_rows(), strict=True)
    return pl.DataFrame(
        [_prompt(*question, *passages) for question, passages in found],
        schema=dict.fromkeys(("kind", "text", "outcome", "detail"), pl.String()),
        orient="row",
    )


def _prompt(
    kind: str | None, question: str | None, passages_kind: str | None, passages: str | None
) -> tuple[str | None, str | None, str | None, str | None]:
    """`kind`, `text`, `outcome` and `detail` of a question and its passages."""
    if kind != "string" or question is None or passages_kind is None or passages is None:
        return kind, question, None, None
    parts = cast("object", json.loads(passages)) if passages_kind == "list" else None
    if not isinstance(parts, list) or not all(_is_passage(part) for part in cast("list[object]", parts)):
        return None, None, MALFORMED, "passages are no lists of sentences"
    written = [f"{title}\n{' '.join(sentences)}" for title, *sentences in cast("list[list[str]]", parts)]
    return "string", "\n\n".join([question, *written]), None, None


def _is_passage(part: object) -> bool:
    return isinstance(part, list) and bool(part) and all(isinstance(s, str) for s in cast("list[object]", part))
