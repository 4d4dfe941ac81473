"""Battles of two models: `model_a`, `model_b`, `winner`, `conversation_a`, `conversation_b`.

Also read where there are any: `judge` (the scorer; `arena` without it), `turn`, and `language`, which stays with the
prompt. `winner` is model_a, model_b, or a tie of one kind or another (a draw; the word itself is kept); another word is
unparsable, a missing one unrated. The sides the models were shown on are not told.

Conversations are lists of messages. The prompt is what they share up to the last shared message of the user, which in
a battle of several turns is the first: from the first answers on they differ. So a completion is all the rest, several
answers with the user's later turns between them, since the vote is about all of it. Those later turns must be the same
on both sides; a battle where they are not is malformed. `turn` says after how many answers the vote was cast: where the
file holds more of the conversation (MT-bench's votes on the first turn), the rest is cut off, since nobody judged it.
"""

from collections.abc import Sequence

import polars as pl

from prefkit.scoring.protocol import ScoreFailureKind
from prefkit.sources.adapters.columns import cells_of, require_columns, text_of
from prefkit.sources.adapters.dialogues import (
    Cell,
    Split,
    Turn,
    cell_frame,
    conversation_turns,
    split,
    split_cells,
)
from prefkit.sources.adapters.frames import preferred, shape
from prefkit.sources.adapters.pairs import PAIR, pair_records
from prefkit.sources.adapters.prompts import also_refused
from prefkit.sources.config import ComparisonFields
from prefkit.sources.conversations import Refusal
from prefkit.sources.fields import metadata_field
from prefkit.sources.rows import MALFORMED, SourceRows
from prefkit.sources.shaped import OVERALL, Shaped

SCORER = "arena"
_WINNER = ComparisonFields(
    scorer="judge",
    preference="winner",
    values={
        "model_a": "a",
        "model_b": "b",
        "tie": "tie",
        "tie (bothbad)": "tie",
        "tie (both bad)": "tie",
        "tie (inconsistent)": "tie",
        "bothbad": "tie",
        "both_bad": "tie",
    },
)


def arena(rows: SourceRows) -> Shaped:
    """Two completions and one comparison per row."""
    require_columns(rows, "arena", ("model_a", "model_b", "winner", "conversation_a", "conversation_b"))
    sides = [cells_of(rows, column).iter_rows() for column in ("turn", "conversation_a", "conversation_b")]
    pairs = cell_frame(rows.numbers, (split_cells(_battle(*cells)) for cells in zip(*sides, strict=True)), PAIR)
    models, judge = [text_of(rows, name) for name in ("model_a", "model_b")], text_of(rows, "judge")
    named = also_refused(pairs, *models).with_columns(model_a=models[0]["text"], model_b=models[1]["text"])
    records = pair_records(named)
    comparisons = pl.concat([cells_of(rows, "winner"), records.pairs], how="horizontal").with_columns(
        judge["text"].fill_null(SCORER).alias("scorer"), aspect=pl.lit(OVERALL), order=pl.lit("unknown")
    )
    judged = preferred(also_refused(comparisons, judge), _WINNER)
    known = pl.col("text").is_null() | pl.col("text").is_in(list(_WINNER.values))
    return shape(
        rows,
        prompts=_with_language(rows, records.prompts),
        completions=records.completions,
        # A number is no winner, though on a scale it would be a preference
        comparisons=judged.with_columns(
            preference=pl.when(known).then("preference"),
            failure=pl.when(known).then("failure").otherwise(pl.lit(ScoreFailureKind.UNPARSABLE.value)),
        ),
    )


def _battle(turn: Cell, a: Cell, b: Cell) -> Split | Refusal:
    sides: list[Sequence[Turn]] = []
    for called, found in (("conversation_a", a), ("conversation_b", b)):
        turns = conversation_turns(*found, called)
        if not isinstance(turns, Refusal):
            turns = _judged(turns, turn, called)
        if isinstance(turns, Refusal):
            return turns
        sides.append(turns)
    return split(sides[0], sides[1])


def _judged(turns: Sequence[Turn], turn: Cell, called: str) -> Sequence[Turn] | Refusal:
    """The conversation up to the answer after which the vote was cast."""
    kind, text = turn
    if kind is None or text is None:
        return turns
    answers = [place for place, message in enumerate(turns) if message.get("role") == "assistant"]
    if kind != "number" or not text.isdecimal() or not 1 <= int(text) <= len(answers):
        return Refusal(MALFORMED, f"turn is {text[:20]}, expected one of the {len(answers)} answers of {called}")
    return turns[: answers[int(text) - 1] + 1]


def _with_language(rows: SourceRows, prompts: pl.DataFrame) -> pl.DataFrame:
    if "language" not in rows.frame.columns:
        return prompts
    found = metadata_field(rows, ["language"])
    return also_refused(prompts, found).with_columns(metadata=found["text"])
