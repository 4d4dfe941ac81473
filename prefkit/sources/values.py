"""Cells that say how good something is: a number, or a word or code that stands for one.

What is there and is no number fails as `unparsable`: an unexplained word, NaN, a number off the scale. It is never a
low score and never a tie. Where nothing is there, nobody judged (`unrated`) or, if the mapping says so, the judge
failed.
"""

import re
from collections.abc import Mapping
from typing import Literal

import polars as pl

from prefkit.errors import RecipeError
from prefkit.scoring.protocol import ScoreFailureKind
from prefkit.sources.columns import blank, column_cells, literal_text, require_column
from prefkit.sources.config import ComparisonFields, ScoreFields
from prefkit.sources.outcomes import ImportOutcome
from prefkit.sources.rows import SourceRows, number_text, number_texts

RATING_SCHEMA = {
    "number": pl.Float64(),
    "failure": pl.String(),
    "raw": pl.String(),  # the cell as the file has it
    "outcome": pl.String(),
    "detail": pl.String(),
}

_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_PREFERENCES = {"a": 1.0, "tie": 0.5, "b": 0.0}
_TRUTHS = {"true": 1.0, "false": 0.0}
_WORD_SCHEMA = {"code": pl.String(), "word": pl.Float64(), "verdict": pl.String()}


def rating_cells(rows: SourceRows, column: str) -> pl.DataFrame:
    """`kind` and `text` like `column_cells`, but NaN is the number `nan`: somebody computed it."""
    if literal_text(column) is None:
        require_column(rows, column)
        if rows.frame[column].dtype.is_float():
            kind = pl.when(pl.col("text").is_not_null()).then(pl.lit("number")).alias("kind")
            return pl.DataFrame({"text": number_texts(rows.frame[column])}).select(kind, "text")
    return column_cells(rows, column)


def scores(found: pl.DataFrame, fields: ScoreFields) -> pl.DataFrame:
    """The scores in cells, in the columns of RATING_SCHEMA. A truth value is 1 or 0."""
    read = _read(found, fields.values)
    return _told(read.with_columns(number=pl.coalesce("word", "number")), fields.missing)


def preferences(found: pl.DataFrame, fields: ComparisonFields) -> pl.DataFrame:
    """The preferences in cells, each in [0, 1] with 1 for a; like `scores`. The middle of the scale is exactly 0.5."""
    for_b, for_a = fields.scale
    number = pl.col("number")
    off = ~number.is_between(min(fields.scale), max(fields.scale))
    if {for_a, for_b} != {0.0, 1.0}:
        off |= pl.col("kind") == "boolean"
    if fields.values and "scale" not in fields.model_fields_set:  # codes: a 0 that is not listed prefers nobody
        off |= pl.col("kind") != "boolean"
    on_scale = (
        pl.when(off)
        .then(None)
        .when(number == (for_a + for_b) / 2)
        .then(pl.lit(0.5))
        .otherwise((number - for_b) / (for_a - for_b))
    )
    read = _read(found, {word: _PREFERENCES.get(str(value), value) for word, value in fields.values.items()})
    return _told(read.with_columns(number=pl.coalesce(pl.col("word"), on_scale)), fields.missing)


def parsed_number(text: pl.Expr) -> pl.Expr:
    """The finite number a text spells in decimal digits, or null."""
    stripped = text.str.strip_chars()
    number = pl.when(stripped.str.contains(_NUMBER)).then(stripped).cast(pl.Float64, strict=False)
    return pl.when(number.is_finite()).then(number)


def _read(found: pl.DataFrame, values: Mapping[str, float | str]) -> pl.DataFrame:
    """The cells with their `number` as written, and the `word` (a number) or `verdict` that `values` has for them."""
    kind, text = pl.col("kind"), pl.col("text")
    scalar = kind.is_in(["string", "number"])
    read = found.with_columns(number=pl.when(scalar).then(parsed_number(text)))
    read = read.with_columns(code=pl.coalesce(number_texts(read["number"]), text.str.strip_chars()))
    read = read.join(_words(values), on="code", how="left", maintain_order="left")
    truth = text.replace_strict(_TRUTHS, default=None, return_dtype=pl.Float64)
    return read.with_columns(number=pl.when(kind == "boolean").then(truth).otherwise("number"))


def _words(values: Mapping[str, float | str]) -> pl.DataFrame:
    """The words with numbers as `number_text` writes them, so that 4 stands for 4.0 as well."""
    words: dict[str, str] = {}
    for word in values:
        code = number_text(float(word)) if re.match(_NUMBER, word.strip()) else word.strip()
        if code in words:
            raise RecipeError(f"`values` has {words[code]!r} and {word!r}, which are the same value: remove one")
        words[code] = word
    rows = [(code, *_meaning(values[word])) for code, word in words.items()]
    return pl.DataFrame(rows, schema=_WORD_SCHEMA, orient="row")


def _meaning(value: float | str) -> tuple[float | None, str | None]:
    return (None, value) if isinstance(value, str) else (value, None)


def _told(read: pl.DataFrame, missing: Literal["unrated", "unparsable"]) -> pl.DataFrame:
    unreadable = pl.col("kind") == "unreadable"
    unrated = pl.col("verdict").eq_missing(pl.lit("unrated"))
    if missing == "unrated":
        unrated |= blank("text")
    failed = blank("text") | pl.col("verdict").eq_missing(pl.lit("unparsable")) | pl.col("number").is_null()
    readable = pl.col("kind").is_null() | ~unreadable
    return read.with_columns(
        pl.when(readable & ~failed).then("number"),
        failure=pl.when(readable & failed).then(pl.lit(ScoreFailureKind.UNPARSABLE.value)),
        raw=pl.when(readable).then("text"),
        outcome=pl.when(unreadable)
        .then(pl.lit(ImportOutcome.MALFORMED.value))
        .when(unrated)
        .then(pl.lit(ImportOutcome.UNRATED.value)),
        detail=pl.when(unreadable).then("text"),
    ).select(RATING_SCHEMA.keys())
