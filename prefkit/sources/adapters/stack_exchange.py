"""Stack Exchange preferences: a `question` and its `answers`, a list of objects.

An answer has `text`, and as far as the file has them `answer_id`, `score` or `pm_score`, and `selected`. The question
is the prompt, answer k the slot k of its row, called by its `answer_id`; people wrote the answers, so the model is
`human`. Votes are a score on the aspect `votes` by the scorer `votes`: the raw `score` where there is one, else the
`pm_score` (log2 of 1 + votes, plus 1 when accepted, -1 below zero). `selected` is a score of 1 or 0 on the aspect
`accepted`. `qid` or `question_id` is the question's key, for other tables too. `date` and `metadata` (the links that
the licence wants to be kept) stay with the prompt.

Texts stay as they are, HTML and all. An answer without an id, a score or `selected` is imported without it.
"""

import polars as pl

from prefkit.sources.adapters.columns import cells_of, first_column, needed_text_of, require_columns, text_of
from prefkit.sources.adapters.frames import rated, reference, shape
from prefkit.sources.adapters.nested import ITEM, list_items, not_objects, object_fields
from prefkit.sources.adapters.prompts import also_refused, row_prompts
from prefkit.sources.columns import first_refusal
from prefkit.sources.config import ScoreFields
from prefkit.sources.fields import metadata_field
from prefkit.sources.rows import SourceRows
from prefkit.sources.shaped import Shaped

SCORER = "votes"
_ANSWER = ("answer_id", "text", "score", "pm_score", "selected")
_SCORE = ScoreFields(scorer=f"={SCORER}", score="votes")


def stack_exchange(rows: SourceRows) -> Shaped:
    """Several completions per row, with votes and acceptance."""
    require_columns(rows, "stack_exchange", ("question", "answers"))
    key = first_column(rows, ("qid", "question_id"))
    keyed = key in rows.frame.columns
    prompts = row_prompts(rows, "question")
    if keyed:
        named = needed_text_of(rows, key)
        prompts = also_refused(prompts, named).with_columns(key=named["text"])
    opened = list_items(rows, "answers")
    fields = object_fields(opened.table, ITEM, _ANSWER)
    places = opened.places.join(prompts.select("row", prompt="key"), on="row", how="left", maintain_order="left")
    name = text_of(fields, "answer_id")
    verdict = first_refusal([not_objects(opened.table, ITEM, "an answer"), name])
    completions = cells_of(fields, "text").with_columns(
        *verdict.get_columns(),
        places["row"],
        places["prompt"],
        places["place"].alias("slot"),
        name["text"].alias("key"),
        pl.lit("human").alias("model"),
    )
    return shape(
        rows,
        prompts=_with_metadata(rows, prompts),
        completions=pl.concat([completions, opened.missing, opened.broken], how="diagonal"),
        scores=_scores(fields, places),
        keyed=keyed,
    )


def _scores(fields: SourceRows, places: pl.DataFrame) -> pl.DataFrame:
    raw, derived = cells_of(fields, "score"), cells_of(fields, "pm_score")
    raw_is_there = raw["kind"].is_not_null()
    votes = derived.select(
        pl.when(raw_is_there).then(raw[name]).otherwise(pl.col(name)).alias(name) for name in ("kind", "text")
    )
    frames = [
        rated(_about(votes, places, "votes"), _SCORE),
        rated(_about(cells_of(fields, "selected"), places, "accepted"), _SCORE),
    ]
    return pl.concat(frames).sort("row", maintain_order=True)


def _about(found: pl.DataFrame, places: pl.DataFrame, aspect: str) -> pl.DataFrame:
    return pl.concat([found, places.select("row", "prompt", "place")], how="horizontal").with_columns(
        reference(slot=pl.col("place")).alias("completion"), scorer=pl.lit(SCORER), aspect=pl.lit(aspect)
    )


def _with_metadata(rows: SourceRows, prompts: pl.DataFrame) -> pl.DataFrame:
    columns = [column for column in ("date", "metadata") if column in rows.frame.columns]
    if not columns:
        return prompts
    found = metadata_field(rows, columns)
    return also_refused(prompts, found).with_columns(metadata=found["text"])
