"""What a mapping names: a column, several columns, or a literal written with an equals sign (`=text`).

Every function gives one row per row of the file. Where a cell cannot be used, `outcome` and `detail` say why.
"""

from collections.abc import Sequence

import polars as pl

from prefkit.errors import SourceError, suggestion
from prefkit.sources.config import Columns
from prefkit.sources.fields import FIELD_SCHEMA, text_field
from prefkit.sources.outcomes import ImportOutcome
from prefkit.sources.rows import CELL_SCHEMA, SourceRows, cells

_MOST_NAMES = 12


def literal_text(column: str) -> str | None:
    """The text of `=text`, or None for the name of a column."""
    return column[1:] if column.startswith("=") else None


def several(columns: Columns) -> tuple[str, ...]:
    """The columns as a tuple, one or several."""
    return (columns,) if isinstance(columns, str) else columns


def require_readable(rows: SourceRows) -> None:
    """Raises SourceError for a file without a row that can be read, so without columns."""
    if rows.frame.width:
        return
    if rows.malformed.is_empty():
        raise SourceError(f"{rows.name} is an empty dataset, expected rows: check how the file was written")
    row, _, detail = rows.malformed.row(0)
    raise SourceError(
        f"{rows.name} is an empty dataset: none of its {len(rows.malformed)} rows can be read "
        f"(row {row}: {detail}): check how the file was written"
    )


def require_column(rows: SourceRows, column: str, others: Sequence[str] = ()) -> None:
    """Raises SourceError for a column the file does not have; `others` are names that would have done as well."""
    known = rows.frame.columns
    if column in known:
        return
    near = suggestion(column, [*others, *known])
    listed = near if "did you mean" in near else f", got {first_names(known)}"
    raise SourceError(f"column {column!r} is not in {rows.name}{listed}")


def column_cells(rows: SourceRows, column: str) -> pl.DataFrame:
    """`kind` and `text` of a column or literal."""
    literal = literal_text(column)
    if literal is None:
        require_column(rows, column)
        return cells(rows, column)
    nothing = pl.DataFrame(schema=CELL_SCHEMA).clear(len(rows.frame))
    return nothing.with_columns(kind=pl.lit("string"), text=pl.lit(literal))


def column_text(
    rows: SourceRows, column: str | None, field: str, outcome: ImportOutcome = ImportOutcome.MALFORMED
) -> pl.DataFrame:
    """`text`, `outcome` and `detail` of a column or literal that holds text, numbers or truth values."""
    if column is None:
        return missing_field(rows)
    literal = literal_text(column)
    if literal is None:
        require_column(rows, column)
        return text_field(rows, column, field, outcome)
    return missing_field(rows).with_columns(text=pl.lit(literal))


def column_name(rows: SourceRows, column: str | None, field: str) -> pl.DataFrame:
    """Like `column_text`, for names: blank is missing."""
    return column_text(rows, column, field).with_columns(pl.when(~blank("text")).then("text"))


def column_key(rows: SourceRows, columns: Columns, field: str) -> pl.DataFrame:
    """Like `column_name`, for keys of one or several columns; a key without one of its parts is missing.

    Several parts are joined with a slash. Slashes within them are escaped, so that different parts make different keys.
    """
    parts = [column_name(rows, column, field) for column in several(columns)]
    if len(parts) == 1:
        return parts[0]
    texts = pl.DataFrame({str(i): part["text"] for i, part in enumerate(parts)})
    escaped = pl.all().str.replace_all("\\", "\\\\", literal=True).str.replace_all("/", "\\/", literal=True)
    joined = texts.select(escaped).select(pl.concat_str(pl.all(), separator="/").alias("text"))
    return pl.concat([joined, first_refusal(parts)], how="horizontal")


def prompt_cells(rows: SourceRows, columns: Columns) -> pl.DataFrame:
    """`kind` and `text` of prompts; of several columns the texts that are not blank, with a blank line between."""
    names = several(columns)
    found = [column_cells(rows, column) for column in names]
    if len(found) == 1:
        return pl.concat([found[0], missing_field(rows).drop("text")], how="horizontal")
    refused = first_refusal([_no_text(part, name) for part, name in zip(found, names, strict=True)])
    texts = pl.DataFrame({str(i): part["text"] for i, part in enumerate(found)})
    said = [pl.when(~blank(name)).then(name) for name in texts.columns]
    there = pl.any_horizontal(pl.all().is_not_null())
    joined = texts.select(
        kind=pl.when(there).then(pl.lit("string")),
        text=pl.when(there).then(pl.concat_str(said, separator="\n\n", ignore_nulls=True)),
    )
    return pl.concat([joined, refused], how="horizontal")


def missing_field(rows: SourceRows) -> pl.DataFrame:
    """`text`, `outcome` and `detail`, all missing."""
    return pl.DataFrame(schema=FIELD_SCHEMA).clear(len(rows.frame))


def blank(column: str) -> pl.Expr:
    """Whether a text is missing, or nothing but white space."""
    return pl.col(column).is_null() | (pl.col(column).str.strip_chars() == "")


def first_refusal(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """`outcome` and `detail` of the first frame that has an outcome for the row."""
    verdicts = pl.DataFrame({str(i): frame.select("outcome", "detail").to_struct() for i, frame in enumerate(frames)})
    refusals = [pl.when(pl.col(c).struct.field("outcome").is_not_null()).then(pl.col(c)) for c in verdicts.columns]
    return verdicts.select(pl.coalesce(refusals).alias("verdict")).unnest("verdict")


def refused_where(
    frame: pl.DataFrame, when: pl.Expr, detail: str | pl.Expr, outcome: ImportOutcome = ImportOutcome.MALFORMED
) -> pl.DataFrame:
    """The frame, with the outcome also where `when` holds and there was none."""
    refused = when & pl.col("outcome").is_null()
    told = pl.lit(detail) if isinstance(detail, str) else detail
    return frame.with_columns(
        outcome=pl.when(refused).then(pl.lit(outcome.value)).otherwise("outcome"),
        detail=pl.when(refused).then(told).otherwise("detail"),
    )


def _no_text(found: pl.DataFrame, column: str) -> pl.DataFrame:
    kind = pl.col("kind")
    unreadable = pl.when(kind == "unreadable").then(pl.lit(ImportOutcome.MALFORMED.value))
    read = found.with_columns(outcome=unreadable, detail=pl.when(kind == "unreadable").then("text"))
    told = pl.format("column {} is of kind {}, expected text as one of several", pl.lit(repr(column)), kind)
    return refused_where(read, kind.is_not_null() & (kind != "string"), told, ImportOutcome.UNSUPPORTED_CONTENT)


def first_names(names: Sequence[str]) -> str:
    """The names in a line, the first ones of many; in quotes where the ends of one could not be seen."""
    more = len(names) - _MOST_NAMES
    shown = [name if name and name == name.strip() else repr(name) for name in names[:_MOST_NAMES]]
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
