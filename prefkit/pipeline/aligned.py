"""Facts brought into the order of a plan.

A plan is dense and ordered, so each fact's place in it can be computed; what is left is to put the rows there. Where
several rows belong to one place, the caller looks up which of them counts.
"""

import numpy as np
import polars as pl


def aligned(rows: pl.DataFrame, size: int) -> tuple[pl.DataFrame, pl.Series]:
    """The rows in the order of their `place`, 0 to `size`, nulls where there is none; and the places of several rows.

    Adds `superseded`, how many rows each row stands for: none, until the places of several rows are patched.
    """
    places = rows["place"].to_numpy()
    index = np.full(size, -1, np.int64)
    index[places] = np.arange(rows.height)
    where = pl.Series(index)
    where = where if index.min(initial=0) >= 0 else where.set(where < 0, None)
    found = rows.drop("place").select(pl.all().gather(where)).with_columns(superseded=pl.lit(0, pl.Int64))
    if np.count_nonzero(index >= 0) == len(places):
        return found, pl.Series([], dtype=pl.Int64)
    return found, pl.Series(np.flatnonzero(np.bincount(places, minlength=size) > 1))


def patched(known: pl.DataFrame, places: pl.Series, rows: pl.DataFrame) -> pl.DataFrame:
    """`known` with the columns of `rows` put in at these places."""
    columns = [known[name].scatter(places, rows[name]) for name in rows.columns]
    return known.with_columns(columns)
