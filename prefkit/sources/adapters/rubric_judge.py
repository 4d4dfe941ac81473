"""Responses graded several times against a rubric of their own, with the judge's whole prompt.

Columns: `judge_prompt`, `response_source`, `gpt4_scores`, `gpt4_feedbacks`. The judge's prompt has the sections
instruction, response, reference answer and score rubrics under lines that begin with `###`. The instruction is the
prompt, with the reference answer as its answer and the rubric beside it; the response is a completion of the model
`response_source`. Grade k is a score by `gpt-4`, repeat k, with feedback k as its rationale: three grades are three
repeats and none is averaged away.

A text that itself holds one of the section lines cannot be cut apart safely: the row is malformed. With fewer feedbacks
than grades (or more) nobody can say which belong together: the grades of the row are malformed, all of them as one.
Without any list of feedbacks there is no rationale.
"""

import re

import polars as pl

from prefkit.identity import canonical_json
from prefkit.sources.adapters.columns import cells_of, require_columns, text_of
from prefkit.sources.adapters.dialogues import Cell, cell_frame
from prefkit.sources.adapters.frames import rated, reference, shape
from prefkit.sources.adapters.nested import ITEM, list_items, uneven
from prefkit.sources.adapters.prompts import also_refused
from prefkit.sources.config import ScoreFields
from prefkit.sources.conversations import Refusal
from prefkit.sources.rows import MALFORMED, SourceRows
from prefkit.sources.shaped import OVERALL, Shaped

SCORER = "gpt-4"
_SLOT = "response"
_SCORE = ScoreFields(scorer=f"={SCORER}", score="grade")
_MARKS = (
    "###The instruction to evaluate:\n",
    "\n\n###Response to evaluate:\n",
    "\n\n###Reference Answer (Score 5):\n",
    "\n\n###Score Rubrics:\n",
    "\n\n###Feedback:",
)
_SECTIONS = re.compile("(.*)".join(re.escape(mark) for mark in _MARKS), re.DOTALL)


def rubric_judge(rows: SourceRows) -> Shaped:
    """One completion per row, with several grades of it."""
    require_columns(rows, "rubric_judge", ("judge_prompt", "response_source", "gpt4_scores", "gpt4_feedbacks"))
    sections = (_sections(*cells) for cells in cells_of(rows, "judge_prompt").iter_rows())
    frame = cell_frame(rows.numbers, sections, ("prompt", "response", "answer", "metadata"))
    model = text_of(rows, "response_source")
    keyed = also_refused(frame, model).with_columns(prompt=pl.col("row").cast(pl.String))
    return shape(
        rows,
        prompts=keyed.select(
            "row",
            "outcome",
            "detail",
            key="prompt",
            kind="prompt_kind",
            text="prompt_text",
            answer="answer_text",
            metadata="metadata_text",
        ),
        completions=keyed.select(
            "row",
            "outcome",
            "detail",
            "prompt",
            slot=pl.lit(_SLOT),
            model=model["text"],
            kind="response_kind",
            text="response_text",
        ),
        scores=_grades(rows, keyed.select("row", "prompt")),
    )


def _grades(rows: SourceRows, prompts: pl.DataFrame) -> pl.DataFrame:
    grades, feedbacks = list_items(rows, "gpt4_scores"), list_items(rows, "gpt4_feedbacks")
    bad = [grades.missing, grades.broken, feedbacks.broken, uneven(grades, feedbacks, "feedbacks for the grades")]
    refused = pl.concat(bad).unique("row", keep="first", maintain_order=True)
    why = feedbacks.places.select("row", "place").with_columns(rationale=cells_of(feedbacks.table, ITEM)["text"])
    found = pl.concat([grades.places.select("row", "place"), cells_of(grades.table, ITEM)], how="horizontal")
    whole = (
        found.join(refused.select("row"), on="row", how="anti")
        .join(why, on=["row", "place"], how="left")
        .join(prompts, on="row", how="left")
        .sort("row", "place")
    )
    said = whole.with_columns(
        reference(slot=pl.lit(_SLOT)).alias("completion"),
        scorer=pl.lit(SCORER),
        aspect=pl.lit(OVERALL),
        repeat="place",
    )
    return pl.concat([rated(said, _SCORE), refused], how="diagonal")


def _sections(kind: str | None, text: str | None) -> tuple[Cell, ...] | Refusal:
    """Instruction, response, reference answer and metadata (the rubric) of a judge's prompt."""
    if kind != "string" or text is None:
        return Refusal(MALFORMED, f"judge_prompt is of kind {kind or 'null'}, expected text")
    if any(text.count(mark.strip()) != 1 for mark in _MARKS):
        return Refusal(MALFORMED, "judge_prompt does not have each of its section lines exactly once")
    found = _SECTIONS.search(text)
    if found is None:
        return Refusal(MALFORMED, "judge_prompt does not have its sections in the order expected")
    instruction, response, reference_answer, rubric = found.groups()
    metadata = canonical_json({"rubric": rubric}).decode()
    return ("string", instruction.strip()), ("string", response), ("string", reference_answer), ("object", metadata)
