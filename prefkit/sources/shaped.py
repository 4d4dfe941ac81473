"""What a table of any shape holds, in one shape: prompts, completions, and what was said about them.

An adapter, or a mapping of columns, turns the rows of a file into these four frames. Nothing is looked up yet: a
completion names its prompt by a key, a score its completion by a key or by its place in the same row. `linking` turns
names into ids.

Prompts and completions are cells (see `prefkit.sources.rows`): `kind` and `text`, a string or a list of messages.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

PROMPTS = {
    "row": pl.Int64(),
    "key": pl.String(),  # what other rows call this prompt; unique to it
    "kind": pl.String(),
    "text": pl.String(),
    "answer": pl.String(),
    "source": pl.String(),  # which part of a mixed set it comes from, or null
    "split": pl.String(),
    "metadata": pl.String(),  # canonical JSON of an object
}
COMPLETIONS = {
    "row": pl.Int64(),
    "prompt": pl.String(),  # key of its prompt
    "slot": pl.String(),  # its name within its row, where rows hold several
    "key": pl.String(),  # what other rows of the same prompt call it; the model's name where null
    "model": pl.String(),  # who wrote it; null when unknown
    "kind": pl.String(),
    "text": pl.String(),
}
_REFERENCE = {
    "slot": pl.String(),  # the completion in this slot of the same row, or
    "key": pl.String(),  # the completion of this key of the same prompt
    "seen": pl.String(),  # the text the scorer saw, where it is not the completion's own
}
_SAID = {
    "scorer": pl.String(),  # annotator or judge
    "aspect": pl.String(),
    "repeat": pl.Int32(),  # null: counted up among what the same scorer said of the same thing
    "failure": pl.String(),  # a ScoreFailureKind; then there is no number
    "rationale": pl.String(),
    "raw": pl.String(),  # the cell as the file has it
}
SCORES = {
    "row": pl.Int64(),
    "prompt": pl.String(),
    "completion": pl.Struct(_REFERENCE),
    "score": pl.Float64(),
    **_SAID,
}
COMPARISONS = {
    "row": pl.Int64(),
    "prompt": pl.String(),
    "a": pl.Struct(_REFERENCE),
    "b": pl.Struct(_REFERENCE),
    "order": pl.String(),  # as shown to the scorer: ab, ba or unknown
    "preference": pl.Float64(),  # in [0, 1]: 1 prefers a
    **_SAID,
}
REFUSED = {
    "row": pl.Int64(),
    "what": pl.String(),  # prompts, completions, scores or comparisons
    "outcome": pl.String(),
    "detail": pl.String(),
}
OVERALL = "overall"
"""The aspect of what is said without naming one."""


def _empty(schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    return pl.DataFrame(schema=schema)


@dataclass(frozen=True, slots=True)
class Shaped:
    """One table's content. Every frame has exactly the columns above; a row of the file may add to any of them."""

    name: str
    """The file, as the user wrote it."""
    keyed: bool
    """Whether prompt keys are the file's own, so that other tables may use them; else they hold within this table."""
    prompts: pl.DataFrame = field(default_factory=lambda: _empty(PROMPTS))
    completions: pl.DataFrame = field(default_factory=lambda: _empty(COMPLETIONS))
    scores: pl.DataFrame = field(default_factory=lambda: _empty(SCORES))
    comparisons: pl.DataFrame = field(default_factory=lambda: _empty(COMPARISONS))
    refused: pl.DataFrame = field(default_factory=lambda: _empty(REFUSED))
    """What of the rows could not be brought into this shape."""
