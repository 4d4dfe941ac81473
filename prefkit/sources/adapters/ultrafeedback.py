"""UltraFeedback: one instruction a row, several completions, each rated on several aspects.

Columns: `instruction`, `completions`, and `source` where there is one. `completions` is a list of objects with `model`,
`response`, `annotations` (aspect -> object with `Rating` and `Rationale`), and sometimes `overall_score` with a
`critique` and a `fine-grained_score`. The instruction is the prompt; completion k is the slot k of its row. All scores
are by the scorer `gpt-4`: one per annotated aspect, `overall` for the overall score, and `fine_grained` for the mean
that the set calls fine-grained.

A rating is read from its own field, never cut out of a text, so a rationale may hold anything. A rating that is text
without a number (`N/A`) is unparsable, a missing one unrated. An aspect that is missing for one completion leaves the
others where they are. Of several rationales the one for the rating is kept. The system prompts that some completions
were written under (`custom_system_prompt`) were not shown to the judge and are not part of the prompt.
"""

import polars as pl

from prefkit.sources.adapters.columns import cells_of, require_columns, text_of
from prefkit.sources.adapters.frames import rated, reference, shape
from prefkit.sources.adapters.nested import ITEM, list_items, not_objects, object_entries, object_fields
from prefkit.sources.adapters.prompts import row_prompts, with_fields
from prefkit.sources.columns import first_refusal
from prefkit.sources.config import ScoreFields
from prefkit.sources.rows import SourceRows
from prefkit.sources.shaped import OVERALL, Shaped

SCORER = "gpt-4"
_COMPLETION = ("model", "response", "annotations", "overall_score", "critique", "fine-grained_score")
_RATING = ("Rating", "Rationale For Rating", "Rationale")
_SCORE = ScoreFields(scorer=f"={SCORER}", score="rating")
_OF_THE_WHOLE = {"overall_score": (OVERALL, "critique"), "fine-grained_score": ("fine_grained", None)}


def ultrafeedback(rows: SourceRows) -> Shaped:
    """Several completions per row, and a score for each of their aspects."""
    require_columns(rows, "ultrafeedback", ("instruction", "completions"))
    prompts = row_prompts(rows, "instruction")
    opened = list_items(rows, "completions")
    fields = object_fields(opened.table, ITEM, _COMPLETION)
    places = opened.places.join(prompts.select("row", prompt="key"), on="row", how="left", maintain_order="left")
    model = text_of(fields, "model")
    verdict = first_refusal([not_objects(opened.table, ITEM, "a completion"), model])
    completions = cells_of(fields, "response").with_columns(
        *verdict.get_columns(),
        places["row"],
        places["prompt"],
        places["place"].alias("slot"),
        model["text"].alias("model"),
    )
    return shape(
        rows,
        prompts=with_fields(rows, prompts, {"source": "source"}),
        completions=pl.concat([completions, opened.missing, opened.broken], how="diagonal"),
        scores=pl.concat([_annotated(fields, places), *_whole(fields, places)], how="diagonal"),
    )


def _annotated(fields: SourceRows, places: pl.DataFrame) -> pl.DataFrame:
    """One score per completion and annotated aspect."""
    opened = object_entries(fields, "annotations")
    said = object_fields(opened.table, ITEM, _RATING)
    is_rated = cells_of(opened.table, ITEM)["kind"].is_not_null()
    broken = not_objects(opened.table, ITEM, "an annotation").select(pl.when(is_rated).then(pl.all()))
    rationale = [cells_of(said, name)["text"].alias(name) for name in _RATING[1:]]
    of = places.select("row", "prompt", "place")[opened.places["parent"]]
    aspects = pl.concat([of, opened.places.select("name")], how="horizontal")
    frame = pl.concat([cells_of(said, "Rating"), aspects, broken], how="horizontal").with_columns(
        reference(slot=pl.col("place")).alias("completion"),
        pl.col("name").alias("aspect"),
        pl.lit(SCORER).alias("scorer"),
        pl.coalesce(*rationale).alias("rationale"),
    )
    return pl.concat([rated(frame, _SCORE), opened.broken], how="diagonal")


def _whole(fields: SourceRows, places: pl.DataFrame) -> list[pl.DataFrame]:
    """One score per completion for the judgments of the whole that the file has."""
    frames: list[pl.DataFrame] = []
    for column, (aspect, why) in _OF_THE_WHOLE.items():
        found = cells_of(fields, column)
        if found["kind"].is_null().all():
            continue
        frame = pl.concat([found, places.select("row", "prompt", "place")], how="horizontal").with_columns(
            reference(slot=pl.col("place")).alias("completion"),
            pl.lit(aspect).alias("aspect"),
            pl.lit(SCORER).alias("scorer"),
            (cells_of(fields, why)["text"] if why else pl.lit(None, pl.String())).alias("rationale"),
        )
        frames.append(rated(frame, _SCORE))
    return frames
