r"""HH-RLHF: `chosen` and `rejected`, each a whole dialogue as text, and `subset` where there is one.

A dialogue is turns that begin with `\n\nHuman: ` or `\n\nAssistant: `. What the two dialogues share up to the last
shared turn of the human is the prompt, the rest of each is its completion, and the row is a comparison by the scorer
`hh_rlhf` that prefers the chosen one. The subset (helpful, harmless) is the prompt's source. No model is named.

Parsing is exact: `dialogue_text` gives back the text that `dialogue` read, with all its white space. A turn may be
empty; turns of one speaker that follow each other stay apart (in the published set some answers go on with a second
`Assistant:`). The words `Human:` and `Assistant:` are a mark only after a blank line. A mark that no space follows, or
a text before the first mark, could not be written back: such a dialogue is malformed, and so is one that ends with the
human or differs from its partner in more than the assistant's turns.
"""

import re
from collections.abc import Sequence

import polars as pl

from prefkit.sampling.protocol import Message
from prefkit.sources.adapters.columns import cells_of, require_columns
from prefkit.sources.adapters.dialogues import Split, cell_frame, split, split_cells
from prefkit.sources.adapters.frames import shape
from prefkit.sources.adapters.pairs import PAIR, pair_records
from prefkit.sources.adapters.prompts import with_fields
from prefkit.sources.conversations import Refusal
from prefkit.sources.rows import MALFORMED, SourceRows
from prefkit.sources.shaped import OVERALL, Shaped

SCORER = "hh_rlhf"
_ROLES = {"Human": "user", "Assistant": "assistant"}
_SPEAKERS = {role: speaker for speaker, role in _ROLES.items()}
_MARK = re.compile(r"\n\n(Human|Assistant):( ?)")


def hh_rlhf(rows: SourceRows) -> Shaped:
    """One comparison per row."""
    require_columns(rows, "hh_rlhf", ("chosen", "rejected"))
    sides = [cells_of(rows, side).iter_rows() for side in ("chosen", "rejected")]
    found = (split_cells(_split(*c, *r)) for c, r in zip(*sides, strict=True))
    pairs = cell_frame(rows.numbers, found, PAIR)
    records = pair_records(pairs.with_columns(model_a=pl.lit(None, pl.String()), model_b=pl.lit(None, pl.String())))
    comparisons = records.pairs.with_columns(
        preference=1.0, scorer=pl.lit(SCORER), aspect=pl.lit(OVERALL), order=pl.lit("unknown")
    )
    prompts = with_fields(rows, records.prompts, {"source": "subset"})
    return shape(rows, prompts=prompts, completions=records.completions, comparisons=comparisons)


def dialogue(text: str) -> list[Message] | Refusal:
    """The turns of a dialogue text, or why it cannot be read without loss."""
    marks = list(_MARK.finditer(text))
    if not marks or marks[0].start() > 0:
        return Refusal(MALFORMED, "the dialogue does not begin with a mark of a speaker")
    for mark in marks:
        if not mark[2]:
            return Refusal(MALFORMED, f"no space follows the mark at character {mark.start() + 1}")
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return [
        Message(role=_ROLES[mark[1]], content=text[mark.end() : end]) for mark, end in zip(marks, ends, strict=True)
    ]


def dialogue_text(messages: Sequence[Message]) -> str:
    """The text that `dialogue` reads as these messages."""
    return "".join(f"\n\n{_SPEAKERS[m['role']]}: {m['content']}" for m in messages)


def _split(
    chosen_kind: str | None, chosen: str | None, rejected_kind: str | None, rejected: str | None
) -> Split | Refusal:
    sides: list[list[Message]] = []
    for called, kind, text in (("chosen", chosen_kind, chosen), ("rejected", rejected_kind, rejected)):
        if kind != "string" or text is None:
            return Refusal(MALFORMED, f"{called} is of kind {kind or 'null'}, expected a dialogue as text")
        turns = dialogue(text)
        if isinstance(turns, Refusal):
            return Refusal(turns.outcome, f"{called}: {turns.detail}")
        sides.append(turns)
    return split(sides[0], sides[1])
