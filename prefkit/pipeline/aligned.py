"""Facts brought into the order of a plan.

A plan is dense and ordered, so each fact's place in it can be computed; what is left is to put the rows there, and of
several rows of one key the one that counts.
"""

import numpy as np
import numpy.typing as npt
import polars as pl

from prefkit.store.facts import by_precedence


def aligned(rows: pl.DataFrame, places: npt.NDArray[np.int64], size: int) -> pl.DataFrame:
    """One row per place from 0 to `size`: the row that counts there, nulls where there is none.

    Drops `batch_id` and adds `superseded`, how many rows each row stands for.
    """
    counts = np.bincount(places, minlength=size)
    if len(places) and counts.max() > 1:
        rows = by_precedence(rows.with_columns(place=places)).unique("place", keep="first", maintain_order=True)
        places = rows["place"].to_numpy()
        rows = rows.drop("place")
    index = np.full(size, -1, np.int64)
    index[places] = np.arange(len(places))
    where = pl.Series(index)
    where = where if (index >= 0).all() else where.set(where < 0, None)
    superseded = pl.Series("superseded", np.maximum(counts - 1, 0))
    return rows.drop("batch_id").select(pl.all().gather(where)).with_columns(superseded)


def patched(known: pl.DataFrame, places: pl.Series, rows: pl.DataFrame) -> pl.DataFrame:
    """`known` with the columns of `rows` put in at these places."""
    columns = [known[name].scatter(places, rows[name]) for name in rows.columns]
    return known.with_columns(columns)
