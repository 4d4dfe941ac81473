"""Rows of a version to read: pairs side by side, single completions below their prompt."""

from collections.abc import Iterator, Mapping
from typing import cast

from rich.box import MINIMAL
from rich.console import RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from prefkit.cli.console import harmless, number
from prefkit.cli.texts import Turn, completion_text, conversation_text, short_id

Row = Mapping[str, object]


def pair_parts(row: Row) -> Iterator[RenderableType]:
    """A pair: what it is, its prompt, and chosen beside rejected."""
    yield _title(row, row["pair_id"], f"margin {_number(row, 'score_margin')}")
    yield Text(harmless(conversation_text(cast("list[Turn]", row["prompt"]))))
    sides = Table(box=MINIMAL, pad_edge=False, show_edge=False, expand=True)
    for side in ("chosen", "rejected"):
        scores = f"{_number(row, f'{side}_score')} ({_scores(row[f'{side}_scores'])})"
        heading = f"{side} {scores} {short_id(cast(str, row[f'{side}_id']))}"
        sides.add_column(Text(harmless(heading)), ratio=1, overflow="fold")
    sides.add_row(*(Text(harmless(completion_text(cast("list[Turn]", row[side])))) for side in ("chosen", "rejected")))
    yield sides
    yield ""


def completion_parts(row: Row) -> Iterator[RenderableType]:
    """A single completion: what it is, its prompt, and what the model said."""
    label = row["label"]
    judged = "" if label is None else " desirable" if label else " undesirable"
    weight = "" if row["weight"] is None else f", weight {_number(row, 'weight')}"
    yield _title(row, row["completion_id"], f"score {_number(row, 'score')} ({_scores(row['scores'])}){judged}{weight}")
    yield Text(harmless(conversation_text(cast("list[Turn]", row["prompt"]))))
    yield Text("> " + harmless(completion_text(cast("list[Turn]", row["completion"]))))
    yield ""


def _title(row: Row, row_id: object, about: str) -> Rule:
    named = [short_id(cast(str, row_id)), str(row["split"]), str(row["source"]), about]
    named += [f"answer {row['answer']}"] if row["answer"] is not None else []
    return Rule(Text(harmless(" | ".join(named))), align="left", characters="-")


def _scores(scores: object) -> str:
    return ", ".join(
        f"{aspect} {number(score)}" for aspect, score in cast("Mapping[str, float | None]", scores).items()
    )


def _number(row: Row, column: str) -> str:
    return number(cast("float | None", row[column]))
