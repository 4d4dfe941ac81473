"""`import.yaml`: which columns of which files hold prompts, completions, and what was said about them.

A value that names a column may be a literal instead, written with an equals sign: `scorer: =gpt-4`. A row of a table
yields a prompt or names one by its key, and any number of completions, scores and comparisons.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from prefkit.config import Config

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Columns = str | Annotated[tuple[str, ...], Field(min_length=1)]
"""One column (or `=literal`), or several."""


class PromptFields(Config):
    """The prompt of a row: in words, or by the key it has elsewhere."""

    text: Columns | None = None
    """The prompt, text or messages; of several columns the texts that are not empty, with a blank line between."""
    key: Columns | None = None
    """What rows call the prompt. Without `text`: the prompt of this key in another table or an earlier import."""
    answer: str | None = None
    """The gold answer."""
    source: str | None = None
    """Which part of a mixed set the prompt comes from."""
    split: str | None = None
    """`train` or `test`."""
    metadata: Columns | None = None
    """Columns to keep beside the prompt."""

    @model_validator(mode="after")
    def _names_a_prompt(self) -> "PromptFields":
        if self.text is None and self.key is None:
            raise ValueError("got neither `text` nor `key`, expected one of them: which prompt does a row belong to?")
        beside = [name for name in ("answer", "source", "split", "metadata") if getattr(self, name) is not None]
        if self.text is None and beside:
            raise ValueError(f"got `{beside[0]}` without `text`, expected it where the prompt is in words")
        return self


class CompletionFields(Config):
    """A completion of the row's prompt."""

    text: str
    """The completion, text or messages."""
    model: str | None = None
    """Who wrote it."""
    key: Columns | None = None
    """What other tables call it, within its prompt; the model's name by default."""


class Said(Config):
    """What scores and comparisons have in common."""

    scorer: str
    """The annotator or judge."""
    aspect: str = "=overall"
    """What was judged."""
    repeat: str | None = None
    """Which of several judgments of the same thing; counted in the order of the file by default."""
    rationale: str | None = None
    """Why, in the scorer's words."""
    missing: Literal["unrated", "unparsable"] = "unrated"
    """What an empty cell means: nobody judged, or the judge's reply could not be read."""


class ScoreFields(Said):
    """A score of one completion."""

    of: Columns | None = None
    """A completion of this row, or a column with the completion's key; the row's only completion by default."""
    seen: str | None = None
    """The text the scorer saw, where it differs; null (in a CSV file, an empty cell) where it does not."""
    score: Columns
    """The number. Several columns are several aspects, named like the columns."""
    values: dict[str, float | Literal["unparsable", "unrated"]] = Field(default_factory=dict)
    """What words or codes in the cells stand for."""

    @model_validator(mode="after")
    def _has_one_aspect_per_column(self) -> "ScoreFields":
        if isinstance(self.score, str):
            return self
        if "aspect" in self.model_fields_set:
            raise ValueError("got `aspect` and a list of score columns, expected one of them: columns name aspects")
        if len(set(self.score)) < len(self.score) or any(column.startswith("=") for column in self.score):
            raise ValueError(f"score is {', '.join(self.score)}, expected different columns: their names are aspects")
        return self


class ComparisonFields(Said):
    """A preference between two completions."""

    a: Columns = "a"
    """A completion of this row, or a column with the completion's key."""
    b: Columns = "b"
    """The other one."""
    a_seen: str | None = None
    """The text of a that the scorer saw, where it differs; null where it does not."""
    b_seen: str | None = None
    """The text of b that the scorer saw, where it differs."""
    preference: str
    """Which one is better."""
    scale: tuple[float, float] = (0.0, 1.0)
    """The numbers for b and for a; what lies between is a graded preference."""
    values: dict[str, Literal["a", "b", "tie", "unparsable", "unrated"] | Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=dict
    )
    """What words or codes in the cells stand for; they come before `scale`. Without a `scale` beside them, a number
    that is none of the codes is unparsable."""
    order: str | None = None
    """In which order the scorer saw them: `ab` or `ba`."""

    @model_validator(mode="after")
    def _scale_has_two_ends(self) -> "ComparisonFields":
        if self.scale[0] == self.scale[1]:
            raise ValueError(f"scale got {self.scale[0]} twice, expected the numbers for b and for a")
        return self


class JoinFields(Config):
    """Columns from another file, by equal keys.

    A column whose name this file has as well is called after its file: `answer` of `problems.jsonl` becomes
    `problems.answer`.
    """

    path: str
    """The other file."""
    on: Columns
    """The columns that both files have."""


class TableConfig(Config):
    """One file, and what its rows hold: said column by column, or by a named adapter."""

    path: str
    """A JSONL, JSON, Parquet, CSV or TSV file (also `.gz`, `.zst`), a folder for some adapters, or a Hub id."""
    adapter: str | None = None
    """The name of a known shape."""
    join: JoinFields | None = None
    """Columns from another file, put beside the rows before anything is made of them."""
    prompt: PromptFields | None = None
    completions: dict[str, CompletionFields] = Field(default_factory=dict)
    """Completions of a row by name; the names serve `scores` and `comparisons` of the same row."""
    scores: tuple[ScoreFields, ...] = ()
    comparisons: tuple[ComparisonFields, ...] = ()

    @model_validator(mode="after")
    def _says_what_rows_hold(self) -> "TableConfig":
        mapped = self.prompt or self.completions or self.scores or self.comparisons
        if self.adapter and mapped:
            raise ValueError(f"got the adapter {self.adapter!r} and a mapping, expected one of them")
        if not self.adapter and self.prompt is None:
            raise ValueError("got no `prompt`, expected one (or an `adapter`): which prompt does a row belong to?")
        if self.prompt and self.prompt.text is None and not (self.completions or self.scores or self.comparisons):
            raise ValueError("got nothing but a prompt's key, expected its text, completions, scores or comparisons")
        return self

    @model_validator(mode="after")
    def _scores_are_about_a_completion(self) -> "TableConfig":
        for index, fields in enumerate(self.scores):
            if fields.of is None and len(self.completions) != 1:
                raise ValueError(
                    f"scores.{index} has no `of`, expected one of the row's {len(self.completions)} completions, or a "
                    "column with a completion's key"
                )
        return self


class ImportConfig(Config):
    """Several tables that become one source."""

    name: str = Field(pattern=NAME)
    """Name of the source."""
    prompts_from: str | None = None
    """An earlier import whose prompts the keys name."""
    tables: tuple[TableConfig, ...] = Field(min_length=1)
