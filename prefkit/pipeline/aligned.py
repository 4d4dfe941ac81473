"""Facts brought into the order of a plan.

A plan is dense and ordered, so each fact's place in it can be computed; what is left is to put the rows there, and of
several rows of one key the one that counts.
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from prefkit.store.facts import by_precedence

Rows: TypeAlias = npt.NDArray[np.int64]
"""Positions of rows."""


def aligned(rows: pl.DataFrame, taken: Rows, places: Rows, size: int) -> pl.DataFrame:
    """One row per place from 0 to `size`: of the `taken` rows the one that counts there, nulls where there is none.

    `taken` are positions in `rows`, `places` where each of them belongs. Drops `batch_id` and adds `superseded`, how
    many rows each row stands for.
    """
    index = np.full(size, -1, np.int64)
    index[places] = taken
    if np.count_nonzero(index >= 0) == len(places):
        return _gathered(rows, index).with_columns(superseded=pl.lit(0, pl.Int64))
    contenders = rows[taken].with_columns(taken=taken, place=places)
    counted = by_precedence(contenders).unique("place", keep="first", maintain_order=True)
    index[counted["place"].to_numpy()] = counted["taken"].to_numpy()
    superseded = np.maximum(np.bincount(places, minlength=size) - 1, 0)
    return _gathered(rows, index).with_columns(superseded=pl.Series(superseded))


def _gathered(rows: pl.DataFrame, index: Rows) -> pl.DataFrame:
    where = pl.Series(index)
    where = where if index.min(initial=0) >= 0 else where.set(where < 0, None)
    return rows.drop("batch_id").select(pl.all().gather(where))


def joined(rows: pl.Series, known: pl.Series) -> tuple[Rows, Rows]:
    """Positions of equal 16-byte ids: in `rows`, and in `known`, which holds each id once."""
    # As one integer, 16 bytes join several times faster than as a string of bytes; and only positions are joined.
    left = rows.bin.reinterpret(dtype=pl.UInt128).alias("id").to_frame().with_row_index("row")
    right = known.bin.reinterpret(dtype=pl.UInt128).alias("id").to_frame().with_row_index("known")
    found = left.join(right, on="id", how="inner")
    return found["row"].to_numpy().astype(np.int64), found["known"].to_numpy().astype(np.int64)


def patched(known: pl.DataFrame, places: pl.Series, rows: pl.DataFrame) -> pl.DataFrame:
    """`known` with the columns of `rows` put in at these places."""
    columns = [known[name].scatter(places, rows[name]) for name in rows.columns]
    return known.with_columns(columns)
