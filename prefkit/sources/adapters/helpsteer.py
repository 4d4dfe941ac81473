"""HelpSteer: `prompt`, `response`, and the attributes helpfulness, correctness, coherence, complexity, verbosity (0-4).

Every row is a sample of its own: the response is a completion of the prompt, each attribute a score on the aspect of
that name by the scorer `human`. Responses to one prompt stand in consecutive rows and meet at the prompt.

A prompt may be a list of messages, or text in which HelpSteer2 marks later turns with a line `<extra_id_1>User` or
`<extra_id_1>Assistant`; such a text becomes the messages it spells, with everything between the marks kept. A null
attribute is unrated, one that is no number unparsable. No model is named.
"""

import re

import polars as pl

from prefkit.identity import canonical_json
from prefkit.sources.adapters.columns import cells_of, require_columns
from prefkit.sources.adapters.frames import rated, reference, shape
from prefkit.sources.adapters.prompts import row_keys
from prefkit.sources.config import ScoreFields
from prefkit.sources.rows import SourceRows
from prefkit.sources.shaped import Shaped

SCORER = "human"
ASPECTS = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
_SLOT = "response"
_SCORE = ScoreFields(scorer=f"={SCORER}", score="attribute")
_MARK = re.compile(r"\n<extra_id_1>(User|Assistant)\n")


def helpsteer(rows: SourceRows) -> Shaped:
    """One completion and up to five scores per row."""
    require_columns(rows, "helpsteer", ("prompt", "response", *ASPECTS))
    turns = [_cell(kind, text) for kind, text in cells_of(rows, "prompt").iter_rows()]
    cells = pl.DataFrame(turns, schema={"kind": pl.String(), "text": pl.String()}, orient="row")
    prompts = cells.with_columns(row_keys(rows), row=rows.numbers)
    completions = cells_of(rows, "response").with_columns(row=rows.numbers, prompt=prompts["key"], slot=pl.lit(_SLOT))
    scores = [
        cells_of(rows, aspect).with_columns(
            reference(slot=pl.lit(_SLOT)).alias("completion"),
            row=rows.numbers,
            prompt=prompts["key"],
            scorer=pl.lit(SCORER),
            aspect=pl.lit(aspect),
        )
        for aspect in ASPECTS
    ]
    said = pl.concat(scores).sort("row", maintain_order=True)
    return shape(rows, prompts=prompts, completions=completions, scores=rated(said, _SCORE))


def _cell(kind: str | None, text: str | None) -> tuple[str | None, str | None]:
    """The prompt's cell, with the marked turns of a text as messages."""
    if kind != "string" or text is None or not _MARK.search(text):
        return kind, text
    first, *rest = _MARK.split(text)
    roles = ["user", *(speaker.lower() for speaker in rest[0::2])]
    contents = [first, *rest[1::2]]
    messages = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]
    return "list", canonical_json(messages).decode()
