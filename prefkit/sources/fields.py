"""The fields of a task besides its prompt: `text`, or `outcome` and `detail` where a cell cannot be used."""

import json
from collections.abc import Sequence

import polars as pl

from prefkit.identity import Json, canonical_json
from prefkit.sources.rows import MALFORMED, SourceRows, cells

FIELD_SCHEMA = {"text": pl.String(), "outcome": pl.String(), "detail": pl.String()}


def absent_field(length: int) -> pl.DataFrame:
    """A field the file does not have."""
    return pl.DataFrame(schema=FIELD_SCHEMA).clear(length)


def text_field(rows: SourceRows, column: str, field: str, outcome: str) -> pl.DataFrame:
    """A field that must be text, a number or a truth value; any other cell ends in `outcome`."""
    kind = pl.col("kind")
    refused = kind.is_in(["list", "object", "unreadable"])
    detail = pl.format("the {} is of kind {}, expected text or a number", pl.lit(field), kind)
    return cells(rows, column).select(
        pl.when(~refused).then(pl.col("text")).alias("text"),
        pl.when(refused).then(pl.lit(outcome)).alias("outcome"),
        pl.when(refused).then(detail).alias("detail"),
    )


def metadata_columns(names: str, known: Sequence[str]) -> list[str]:
    """The columns that a `metadata` mapping names: one, or several with commas between them."""
    return [names] if names in known else [name.strip() for name in names.split(",") if name.strip()]


def metadata_field(rows: SourceRows, columns: Sequence[str]) -> pl.DataFrame:
    """Metadata as a canonical JSON object: one column of nothing but objects as it is, others under their names."""
    found = [cells(rows, column) for column in columns]
    if len(found) == 1 and (objects := _objects(found[0])) is not None:
        return objects
    names = [f"{part}{index}" for index in range(len(columns)) for part in ("kind", "text")]
    wide = pl.concat(
        [f.rename({"kind": f"kind{i}", "text": f"text{i}"}) for i, f in enumerate(found)], how="horizontal"
    )
    distinct = wide.unique(maintain_order=True)
    combined = [_combined(columns, row[0::2], row[1::2]) for row in distinct.select(names).iter_rows()]
    distinct = pl.concat([distinct, pl.DataFrame(combined, schema=FIELD_SCHEMA, orient="row")], how="horizontal")
    joined = wide.join(distinct, on=wide.columns, how="left", nulls_equal=True, maintain_order="left")
    return joined.select(FIELD_SCHEMA.keys())


def _objects(found: pl.DataFrame) -> pl.DataFrame | None:
    """The cells as canonical objects, or None when a cell is something else."""
    texts = [_object_text(kind, text) for kind, text in found.iter_rows()]
    if any(text is None and kind is not None for text, kind in zip(texts, found["kind"], strict=True)):
        return None
    return absent_field(len(texts)).with_columns(pl.Series("text", texts, pl.String))


def _object_text(kind: str | None, text: str | None) -> str | None:
    if text is None or kind == "object":
        return text
    if kind != "string" or not text.lstrip().startswith("{"):
        return None
    try:
        value: Json = json.loads(text)
        return canonical_json(value).decode()
    except (ValueError, RecursionError):
        return None


def _combined(
    columns: Sequence[str], kinds: Sequence[str | None], texts: Sequence[str | None]
) -> tuple[str | None, str | None, str | None]:
    """`text`, `outcome` and `detail` of one row; missing cells are left out."""
    values: dict[str, Json] = {}
    for column, kind, text in zip(columns, kinds, texts, strict=True):
        if kind == "unreadable":
            return None, MALFORMED, f"{column}: {text}"
        if text is not None:
            values[column] = text if kind == "string" else json.loads(text)
    return canonical_json(values).decode() if values else None, None, None
