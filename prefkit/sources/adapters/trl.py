"""TRL's preference rows: `prompt`, `chosen`, `rejected`, or `prompt`, `completion`, `label`.

Paired rows are comparisons by the scorer `trl` that prefer the chosen completion; `score_chosen` and `score_rejected`,
where a file has them, are its scores of the two. In unpaired rows the label is a score of 1 or 0 on the aspect `label`.
Prompts and completions are text or messages.

Where rows have no prompt, or where `chosen` and `rejected` are whole conversations beside one, the prompt is what the
two share up to the last shared user message, and it must agree with the prompt that is there. Two texts without a
prompt are refused (`missing_prompt`): their longest common beginning may end in the middle of the answers. A completion
in messages must begin and end with the assistant. Rows with tools or images cannot be carried.
"""

from collections.abc import Sequence

import polars as pl

from prefkit.sources.adapters.columns import cells_of, require_columns
from prefkit.sources.adapters.dialogues import (
    Cell,
    Split,
    Turn,
    cell,
    cell_frame,
    conversation_turns,
    split,
    split_cells,
)
from prefkit.sources.adapters.frames import rated, reference, shape
from prefkit.sources.adapters.pairs import PAIR, pair_records
from prefkit.sources.adapters.prompts import row_keys
from prefkit.sources.config import ScoreFields
from prefkit.sources.conversations import Refusal
from prefkit.sources.rows import MALFORMED, SourceRows
from prefkit.sources.shaped import OVERALL, Shaped

SCORER = "trl"
_UNCARRIED = ("tools", "images", "image")
_NOTHING = ("", "[]", "{}")
_SLOT = "completion"
_SCORE = ScoreFields(scorer=f"={SCORER}", score="score")
_UNNAMED = pl.lit(None, pl.String())
_NO_PROMPT = Refusal("missing_prompt", "chosen and rejected are no conversations: where does the prompt end?")


def trl(rows: SourceRows) -> Shaped:
    """One comparison per paired row, or one score per unpaired row."""
    unpaired = "label" in rows.frame.columns and "chosen" not in rows.frame.columns
    return _unpaired(rows) if unpaired else _paired(rows)


def _paired(rows: SourceRows) -> Shaped:
    require_columns(rows, "trl", ("chosen", "rejected"))
    sides = [cells_of(rows, column).iter_rows() for column in ("prompt", "chosen", "rejected")]
    found = (no or _pair(*cells) for no, *cells in zip(_uncarried(rows), *sides, strict=True))
    pairs = cell_frame(rows.numbers, found, PAIR)
    records = pair_records(pairs.with_columns(model_a=_UNNAMED, model_b=_UNNAMED))
    said = {"scorer": pl.lit(SCORER), "aspect": pl.lit(OVERALL)}
    scores = [
        rated(pl.concat([cells_of(rows, column), records.pairs.rename({side: "completion"})], how="horizontal"), _SCORE)
        for column, side in (("score_chosen", "a"), ("score_rejected", "b"))
        if column in rows.frame.columns
    ]
    return shape(
        rows,
        prompts=records.prompts,
        completions=records.completions,
        scores=pl.concat(scores, how="diagonal").sort("row", maintain_order=True).with_columns(**said)
        if scores
        else None,
        comparisons=records.pairs.with_columns(preference=1.0, order=pl.lit("unknown"), **said),
    )


def _unpaired(rows: SourceRows) -> Shaped:
    require_columns(rows, "trl", ("prompt", "completion", "label"))
    sides = [cells_of(rows, column).iter_rows() for column in ("prompt", "completion")]
    found = (no or _single(*cells) for no, *cells in zip(_uncarried(rows), *sides, strict=True))
    frame = cell_frame(rows.numbers, found, ("prompt", _SLOT)).with_columns(row_keys(rows))
    about = frame.select("row", "outcome", "detail", prompt="key")
    scores = pl.concat([cells_of(rows, "label"), about], how="horizontal").with_columns(
        reference(slot=pl.lit(_SLOT)).alias("completion"), scorer=pl.lit(SCORER), aspect=pl.lit("label")
    )
    return shape(
        rows,
        prompts=frame.select("row", "outcome", "detail", "key", kind="prompt_kind", text="prompt_text"),
        completions=about.with_columns(
            slot=pl.lit(_SLOT), kind=frame["completion_kind"], text=frame["completion_text"]
        ),
        scores=rated(scores, _SCORE),
    )


def _pair(prompt: Cell, chosen: Cell, rejected: Cell) -> Sequence[Cell] | Refusal:
    """The cells of prompt, chosen and rejected, or why the row holds no pair."""
    both = _is_conversation(chosen) and _is_conversation(rejected)
    whole = split(_turns(chosen), _turns(rejected)) if both else None
    if prompt[0] is None:
        return split_cells(whole) if whole else _NO_PROMPT
    known = _turns(prompt)
    if isinstance(whole, Split) and list(whole.prompt[-len(known) :]) == known:
        return split_cells(whole)
    answers = _answer(known, chosen, "chosen"), _answer(known, rejected, "rejected")
    refusal = next((answer for answer in answers if isinstance(answer, Refusal)), None)
    return refusal or (prompt, *(answer for answer in answers if not isinstance(answer, Refusal)))


def _single(prompt: Cell, completion: Cell) -> Sequence[Cell] | Refusal:
    answer = _answer(_turns(prompt), completion, "completion")
    return answer if isinstance(answer, Refusal) else (prompt, answer)


def _answer(prompt: Sequence[Turn], found: Cell, called: str) -> Cell | Refusal:
    """The cell of a completion: without the prompt, where it begins with it."""
    if found[0] != "list":
        return found
    turns = _turns(found)
    if prompt and turns[: len(prompt)] == prompt:
        turns = turns[len(prompt) :]
    if not turns or any(turn.get("role") != "assistant" for turn in (turns[0], turns[-1])):
        return Refusal(MALFORMED, f"{called} does not begin (after the prompt) and end with the assistant")
    return cell(turns, "assistant")


def _is_conversation(found: Cell) -> bool:
    turns = _turns(found)
    return found[0] == "list" and bool(turns) and turns[0].get("role") != "assistant"


def _turns(found: Cell) -> list[Turn]:
    """The messages of a prompt, or of a completion in messages; none where it is something else."""
    kind, text = found
    turns = conversation_turns(kind, text, "")
    if not isinstance(turns, Refusal):
        return turns
    return [{"role": "user", "content": text}] if kind == "string" else []


def _uncarried(rows: SourceRows) -> list[Refusal | None]:
    """For every row, whether it holds what cannot be carried."""
    refusals: list[Refusal | None] = [None] * len(rows.frame)
    for column in _UNCARRIED:
        for place, text in enumerate(cells_of(rows, column)["text"]):
            if text is not None and text not in _NOTHING:
                refusals[place] = Refusal("unsupported_content", f"the row has {column!r}, which cannot be carried")
    return refusals
