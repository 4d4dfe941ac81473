import math

import polars as pl

from prefkit.shift.staleness import staleness


def test_staleness_counts_steps_and_what_is_unknown() -> None:
    found = staleness(pl.Series([0, 5, None, 5, 10]))
    assert (dict(found.counts), found.unknown, found.mean) == ({0: 1, 5: 2, 10: 1}, 1, 5.0)


def test_staleness_of_rows_without_a_run_is_unknown() -> None:
    found = staleness(pl.Series([None, None], dtype=pl.Int64))
    assert (dict(found.counts), found.unknown) == ({}, 2)
    assert math.isnan(found.mean)
