"""UltraFeedback as pipelines write it: generations, ratings and rationales in parallel lists.

Columns: `instruction`, `generations`, `ratings`, and `generation_models` and `rationales` where there are any. The
instruction is the prompt, generation k the slot k of its row, rating k its score on the aspect `overall` by the scorer
`ultrafeedback`, which these files do not name.

Labels belong to completions by their place, so lists of different lengths have no reading: with fewer ratings (or
rationales) than generations nobody can say which one is missing, and the scores of that row are malformed; with another
number of models its completions are. Either is one outcome for the whole list. A null rating is unrated and keeps its
place; a null generation is a missing text. Without a list of models or rationales there are none.
"""

import polars as pl

from prefkit.sources.adapters.columns import cells_of, require_columns, text_of
from prefkit.sources.adapters.frames import rated, reference, shape
from prefkit.sources.adapters.nested import ITEM, Opened, list_items, uneven
from prefkit.sources.adapters.prompts import row_prompts
from prefkit.sources.config import ScoreFields
from prefkit.sources.rows import SourceRows
from prefkit.sources.shaped import OVERALL, Shaped

SCORER = "ultrafeedback"
_SCORE = ScoreFields(scorer=f"={SCORER}", score="rating")


def ultrafeedback_lists(rows: SourceRows) -> Shaped:
    """Several completions per row, each with one score."""
    require_columns(rows, "ultrafeedback_lists", ("instruction", "generations", "ratings"))
    prompts = row_prompts(rows, "instruction")
    generations = list_items(rows, "generations")
    return shape(
        rows,
        prompts=prompts,
        completions=_completions(rows, prompts, generations),
        scores=_scores(rows, prompts, generations),
    )


def _completions(rows: SourceRows, prompts: pl.DataFrame, generations: Opened) -> pl.DataFrame:
    models = list_items(rows, "generation_models")
    bad = pl.concat([models.broken, uneven(generations, models, "models for the generations")]).join(
        pl.concat([generations.missing, generations.broken]).select("row"), on="row", how="anti"
    )
    named = text_of(models.table, ITEM).rename({"text": "model"})
    by_place = pl.concat([models.places.select("row", "place"), named], how="horizontal")
    found = pl.concat([generations.places.select("row", "place"), cells_of(generations.table, ITEM)], how="horizontal")
    whole = found.join(bad.select("row"), on="row", how="anti").join(by_place, on=["row", "place"], how="left")
    usable = whole.join(prompts.select("row", prompt="key"), on="row", how="left").with_columns(slot="place")
    return pl.concat([usable.sort("row", "place"), generations.missing, generations.broken, bad], how="diagonal")


def _scores(rows: SourceRows, prompts: pl.DataFrame, generations: Opened) -> pl.DataFrame:
    ratings, rationales = list_items(rows, "ratings"), list_items(rows, "rationales")
    lengths = [
        uneven(generations, ratings, "ratings for the generations"),
        uneven(generations, rationales, "rationales for the generations"),
    ]
    bad = [ratings.missing, ratings.broken, rationales.broken, *lengths]
    refused = pl.concat(bad).unique("row", keep="first", maintain_order=True)
    why = rationales.places.select("row", "place").with_columns(rationale=cells_of(rationales.table, ITEM)["text"])
    found = pl.concat([ratings.places.select("row", "place"), cells_of(ratings.table, ITEM)], how="horizontal")
    whole = (
        found.join(refused.select("row"), on="row", how="anti")
        .join(why, on=["row", "place"], how="left")
        .join(prompts.select("row", prompt="key"), on="row", how="left")
        .sort("row", "place")
    )
    said = whole.with_columns(
        reference(slot=pl.col("place")).alias("completion"),
        scorer=pl.lit(SCORER),
        aspect=pl.lit(OVERALL),
    )
    return pl.concat([rated(said, _SCORE), refused], how="diagonal")
