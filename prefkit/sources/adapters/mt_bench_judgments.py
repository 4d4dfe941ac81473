r"""MT-Bench single-answer judgments: a judge's prompt, its free-text judgment, the model and the judge.

Columns: `judge_prompt` (`user_prompt` in the original files), `judgment`, `model`, `judge`. In a judgment of a first
turn the judge's prompt holds a question and an answer, each between its marks; in one of a second turn a conversation
of two turns, which becomes a prompt of three messages (question, first answer, second question) and the completion that
answers it. A reference answer in the judge's prompt is left there. The score, on the aspect `overall` by the scorer
`judge`, is the rating the judgment gives as `[[8.5]]`, from 1 to 10, and the judgment its rationale.

A judgment without such a rating, with two different ones, or with one outside the scale is unparsable (the original
files write -1), a null one unrated. `judge` may be a list whose first item is the judge's name. A prompt whose marks
occur more often than the template has them cannot be cut apart safely: the row is malformed.
"""

import re

import polars as pl

from prefkit.scoring.protocol import ScoreFailureKind
from prefkit.sources.adapters.columns import cells_of, first_column, require_columns, text_of
from prefkit.sources.adapters.dialogues import Cell, Turn, cell, cell_frame
from prefkit.sources.adapters.frames import reference, shape
from prefkit.sources.adapters.nested import ITEM, list_items
from prefkit.sources.adapters.prompts import also_refused, row_keys
from prefkit.sources.columns import refused_where
from prefkit.sources.conversations import Refusal
from prefkit.sources.outcomes import ImportOutcome
from prefkit.sources.rows import MALFORMED, SourceRows
from prefkit.sources.shaped import OVERALL, Shaped

_RATING = r"\[\[(\d+(?:\.\d+)?)\]\]"
_SCALE = (1, 10)
_SLOT = "answer"
_ANSWER = ("\n\n[The Start of Assistant's Answer]\n", "\n[The End of Assistant's Answer]")
_QUESTION = "[Question]\n"
_REFERENCE = "\n\n[The Start of Reference Answer]\n"
_TALK = (
    "<|The Start of Assistant A's Conversation with User|>\n\n",
    "\n\n<|The End of Assistant A's Conversation with User|>",
)
_TURN = re.compile(r"(?:^|\n\n)### (User|Assistant A):\n")
_ROLES = {"User": "user", "Assistant A": "assistant"}
_TWO_TURNS = ["user", "assistant", "user", "assistant"]


def mt_bench_judgments(rows: SourceRows) -> Shaped:
    """One completion and one score per row."""
    column = first_column(rows, ("judge_prompt", "user_prompt"))
    require_columns(rows, "mt_bench_judgments", (column, "judgment", "model", "judge"))
    found = (_judged(kind, text) for kind, text in cells_of(rows, column).iter_rows())
    model, judge = text_of(rows, "model"), _judge(rows)
    frame = also_refused(cell_frame(rows.numbers, found, ("prompt", _SLOT)), model).with_columns(row_keys(rows))
    about = frame.select("row", "outcome", "detail", prompt="key")
    scores = about.with_columns(
        reference(slot=pl.lit(_SLOT)).alias("completion"),
        scorer=judge["text"],
        aspect=pl.lit(OVERALL),
        judgment=cells_of(rows, "judgment")["text"],
    )
    return shape(
        rows,
        prompts=frame.select("row", "outcome", "detail", "key", kind="prompt_kind", text="prompt_text"),
        completions=about.with_columns(
            slot=pl.lit(_SLOT), model=model["text"], kind=frame["answer_kind"], text=frame["answer_text"]
        ),
        scores=_rated(also_refused(scores, judge)),
    )


def _rated(scores: pl.DataFrame) -> pl.DataFrame:
    ratings = pl.col("judgment").str.extract_all(_RATING).list.unique()
    only = pl.when(ratings.list.len() == 1).then(ratings.list.first().str.extract(_RATING).cast(pl.Float64))
    judged = scores.with_columns(score=pl.when(only.is_between(*_SCALE)).then(only))
    silent = pl.col("judgment").is_null()
    return judged.with_columns(
        failure=pl.when(pl.col("score").is_null() & ~silent).then(pl.lit(ScoreFailureKind.UNPARSABLE.value)),
        outcome=pl.coalesce("outcome", pl.when(silent).then(pl.lit(ImportOutcome.UNRATED.value))),
        rationale="judgment",
        raw="judgment",
    )


def _judge(rows: SourceRows) -> pl.DataFrame:
    """The judge's name: text, or the first item of a list."""
    listed = list_items(rows, "judge")
    first = pl.concat([listed.places, cells_of(listed.table, ITEM)], how="horizontal").filter(
        place=0, kind=pl.lit("string")
    )
    names = rows.numbers.to_frame().join(first.select("row", "text"), on="row", how="left", maintain_order="left")
    found = text_of(rows, "judge").with_columns(listed=names["text"])
    plain = pl.col("listed").is_null()
    named = found.select(
        pl.coalesce("listed", "text").alias("text"), pl.when(plain).then("outcome"), pl.when(plain).then("detail")
    )
    return refused_where(named, pl.col("text").is_null(), "judge is missing")


def _judged(kind: str | None, text: str | None) -> tuple[Cell, Cell] | Refusal:
    """The cells of the prompt and of the answer that a judge's prompt asks about."""
    if kind != "string" or text is None:
        return Refusal(MALFORMED, f"the judge's prompt is of kind {kind or 'null'}, expected text")
    talk = _between(text, *_TALK)
    if talk is not None:
        return _second_turn(talk)
    answer = _between(text, *_ANSWER)
    asked = text.partition(_ANSWER[0])[0]
    question = asked.partition(_QUESTION)[2].partition(_REFERENCE)[0]
    if answer is None or asked.count(_QUESTION) != 1 or asked.count(_REFERENCE) > 1:
        return Refusal(MALFORMED, "the judge's prompt does not have each of its marks exactly once")
    return ("string", question), ("string", answer)


def _second_turn(talk: str) -> tuple[Cell, Cell] | Refusal:
    before, *rest = _TURN.split(talk)
    turns: list[Turn] = [
        {"role": _ROLES[speaker], "content": content} for speaker, content in zip(rest[0::2], rest[1::2], strict=True)
    ]
    if before or [turn["role"] for turn in turns] != _TWO_TURNS:
        return Refusal(MALFORMED, "the judge's prompt does not hold a conversation of two turns")
    return cell(turns[:3], "user"), cell(turns[3:], "assistant")


def _between(text: str, start: str, end: str) -> str | None:
    """What stands between two marks that occur once each."""
    if text.count(start) != 1 or text.count(end) != 1:
        return None
    return text.partition(start)[2].partition(end)[0]
