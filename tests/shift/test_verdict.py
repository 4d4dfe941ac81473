from collections.abc import Mapping

import polars as pl
import pytest

from prefkit.shift.bootstrap import Bootstrap
from prefkit.shift.data import ShiftData
from prefkit.shift.report import report
from prefkit.shift.verdict import Kind, Limits
from tests.shift.builders import version

QUICK = Bootstrap(resamples=100)
LITTLE, FAR, VERY_FAR = {"unlikelier": 1.33}, {"unlikelier": 1.45}, {"unlikelier": 2.5}


@pytest.mark.parametrize(
    ("chosen", "rejected", "kind"),
    [
        ({}, {}, "fine"),
        (FAR, {}, "sft_first"),
        (LITTLE, LITTLE, "mix"),
        (VERY_FAR, VERY_FAR, "regenerate"),
        ({}, VERY_FAR, "regenerate"),
    ],
)
def test_verdict_of_versions_with_known_shift(
    chosen: Mapping[str, float], rejected: Mapping[str, float], kind: Kind
) -> None:
    assert report(version(chosen=chosen, rejected=rejected), Limits(), bootstrap=QUICK).verdict.kind == kind


def test_verdict_mixes_source_by_source_where_one_fits() -> None:
    data = version(sources=("ours", "theirs"))
    theirs = two_sources(data)
    found = report(theirs, Limits(), bootstrap=QUICK).verdict
    assert found.kind == "mix"
    assert found.reasons[-1] == "keep ours; regenerate theirs"


def test_source_of_a_few_rows_is_neither_kept_nor_regenerated() -> None:
    data = two_sources(version(sources=("ours", "theirs")))
    few = pl.when(pl.col("row") < 3).then(pl.lit("few")).otherwise(pl.col("source"))
    found = report(ShiftData(data.rows.with_columns(source=few), data.samples, 0), Limits(), bootstrap=QUICK).verdict
    assert found.reasons[-1] == "keep ours; regenerate theirs; too few rows to say: few"


def test_gate_without_limits_holds_whatever_the_verdict() -> None:
    found = report(version(chosen=VERY_FAR, rejected=VERY_FAR), Limits(), bootstrap=QUICK)
    assert (found.passed, found.verdict.kind) == (True, "regenerate")


def test_gate_names_each_limit_and_side_that_crosses() -> None:
    limits = Limits(max_off_support=0.10, max_nll_gap=0.5)
    found = report(version(chosen=VERY_FAR), limits, bootstrap=QUICK)
    assert [(crossing.statistic, crossing.side) for crossing in found.crossed] == [
        ("off_support", "chosen"),
        ("nll_gap", "chosen"),
    ]
    assert not found.passed


def test_recipes_limit_decides_the_verdict_too() -> None:
    data = version(chosen=LITTLE, rejected=LITTLE)
    assert report(data, Limits(max_off_support=0.9, max_nll_gap=5), bootstrap=QUICK).verdict.kind == "fine"


def two_sources(data: ShiftData) -> ShiftData:
    """Every text of `theirs` three times as unlikely."""
    moved = pl.when(source="theirs").then(pl.col("logps") * 3).otherwise(pl.col("logps"))
    return ShiftData(data.rows.with_columns(logps=moved), data.samples, 0)
