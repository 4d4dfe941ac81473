import polars as pl
import pytest

from prefkit.shift.data import shift_data
from prefkit.shift.scores import row_scores
from tests.shift.builders import Reference, rows, samples, version


def test_by_row_puts_the_sides_beside_each_other() -> None:
    scores = row_scores(version(60))
    wide = scores.by_row()
    chosen = scores.rows.filter(side="chosen")
    assert wide["row"].to_list() == chosen["row"].to_list()
    assert wide["chosen_surprise"].to_list() == chosen["surprise"].to_list()
    assert wide["rejected_off_support"].dtype == pl.Boolean


def test_text_that_the_reference_would_not_write_sorts_to_the_top() -> None:
    reference = Reference.of(60, 0)
    planted = pl.col("row").is_in([7, 31])
    logps = pl.when(planted).then(pl.col("logps") * 4).otherwise(pl.col("logps"))
    data = shift_data(rows(reference.draw(1, 1), "chosen").with_columns(logps=logps), samples(reference.draw(4, 2)))
    scores = row_scores(data)
    assert set(scores.by_row().sort("chosen_surprise", descending=True)["row"].head(2)) == {7, 31}
    assert scores.rows.filter(planted)["off_support"].all()


def test_scores_do_not_depend_on_the_order_of_rows() -> None:
    data = version(60)
    shuffled = shift_data(data.rows.sample(fraction=1, shuffle=True, seed=1), data.samples)
    one, other = (row_scores(of).rows.sort("side", "row") for of in (data, shuffled))
    assert other["surprise"].to_list() == pytest.approx(one["surprise"].to_list())


def test_log_ratio_is_null_where_no_behaviour_log_prob_is_known() -> None:
    assert row_scores(version(60)).rows["log_ratio"].null_count() == 120
