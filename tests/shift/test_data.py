import polars as pl
import pytest

from prefkit.errors import SourceError
from prefkit.shift.data import shift_data
from tests.shift.builders import Reference, rows, samples

REFERENCE = Reference.of(5, seed=0)
ROWS = rows(REFERENCE.draw(1, 1), "chosen")
SAMPLES = samples(REFERENCE.draw(2, 2))


def test_missing_column_is_named() -> None:
    with pytest.raises(SourceError, match="rows have no column 'cut'"):
        shift_data(ROWS.drop("cut"), SAMPLES)


def test_unknown_side_is_named_with_the_known_ones() -> None:
    with pytest.raises(SourceError, match="'winner', expected one of chosen, rejected, completion"):
        shift_data(ROWS.with_columns(side=pl.lit("winner")), SAMPLES)


def test_no_samples_are_refused() -> None:
    with pytest.raises(SourceError, match="samples have no log-prob"):
        shift_data(ROWS, SAMPLES.clear())


def test_infinite_log_prob_is_refused() -> None:
    with pytest.raises(SourceError, match="no finite numbers"):
        shift_data(ROWS.with_columns(logps=pl.lit(float("-inf"))), SAMPLES)


def test_rows_without_log_prob_or_tokens_are_set_aside_and_counted() -> None:
    logps = pl.when(pl.col("row") == 0).then(None).otherwise(pl.col("logps"))
    tokens = pl.when(pl.col("row") == 1).then(0).otherwise(pl.col("tokens"))
    data = shift_data(ROWS.with_columns(logps=logps, tokens=tokens), SAMPLES)
    assert (data.rows["row"].to_list(), data.unscored) == ([2, 3, 4], 2)


def test_sides_have_a_fixed_order_whatever_the_rows() -> None:
    both = pl.concat([ROWS.with_columns(side=pl.lit("rejected")), ROWS])
    assert shift_data(both, SAMPLES).sides == ("chosen", "rejected")
