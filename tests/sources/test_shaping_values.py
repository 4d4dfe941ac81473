import json
import math

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.errors import RecipeError
from prefkit.identity import Json
from prefkit.sources.config import TableConfig
from prefkit.sources.delimited import read_csv
from prefkit.sources.json_lines import read_json_lines
from prefkit.sources.rows import SourceRows, number_text, number_texts, source_rows
from prefkit.sources.shaped import Shaped
from prefkit.sources.shaping import shaped


def cells(*values: Json) -> SourceRows:
    """A JSON Lines file of ratings of one completion."""
    return read_json_lines("\n".join(json.dumps({"id": 1, "v": value}) for value in values).encode(), "t.jsonl")


def typed(values: pl.Series) -> SourceRows:
    """A Parquet file of ratings of one completion."""
    frame = pl.DataFrame({"id": [1] * len(values), "v": values})
    return source_rows("t.parquet", range(1, len(frame) + 1), frame, frozenset(), [])


def scored(rows: SourceRows, **fields: object) -> Shaped:
    score = {"of": "=m", "score": "v", "scorer": "=w", **fields}
    return shaped(rows, TableConfig.model_validate({"path": "t", "prompt": {"key": "id"}, "scores": [score]}))


def compared(rows: SourceRows, **fields: object) -> Shaped:
    comparison = {"a": "=m", "b": "=n", "preference": "v", "scorer": "=w", **fields}
    return shaped(rows, TableConfig.model_validate({"path": "t", "prompt": {"key": "id"}, "comparisons": [comparison]}))


def told(found: Shaped) -> dict[int, object]:
    """By row: the number, the failure, or the outcome of what was refused."""
    said = {row: score if failure is None else failure for row, score, failure in
            found.scores.select("row", "score", "failure").rows()}  # fmt: skip
    said |= {row: p if failure is None else failure for row, p, failure in
             found.comparisons.select("row", "preference", "failure").rows()}  # fmt: skip
    return said | dict(found.refused.select("row", "outcome").rows())


@pytest.mark.parametrize(
    ("cell", "number", "raw"),
    [
        (4, 4.0, "4"),
        (4.0, 4.0, "4"),
        (4.5, 4.5, "4.5"),
        ("4", 4.0, "4"),
        (" 4.0 ", 4.0, " 4.0 "),
        ("+.5", 0.5, "+.5"),
        ("-1e-3", -0.001, "-1e-3"),
        ("\u00a07.\n", 7.0, "\u00a07.\n"),
        (-0.0, 0.0, "0"),
        (1e300, 1e300, "1e+300"),
        (True, 1.0, "true"),
        (False, 0.0, "false"),
    ],
)
def test_number_is_a_score_however_it_is_written(cell: Json, number: float, raw: str) -> None:
    assert scored(cells(cell)).scores.select("score", "failure", "raw").row(0) == (number, None, raw)


@pytest.mark.parametrize(
    "cell",
    ["good", "NaN", "nan", "inf", "-Infinity", "1e999", "4,5", "4/5", "1_000", "0x1f", "٤", "4 stars", "true", "--1",
     "e5", ".", [4], {"score": 4}, []],
)  # fmt: skip
def test_what_is_no_number_is_a_failure_and_never_a_low_score(cell: Json) -> None:
    raw = cell if isinstance(cell, str) else json.dumps(cell, separators=(",", ":"))
    assert scored(cells(cell)).scores.select("score", "failure", "raw").rows() == [(None, "unparsable", raw)]
    assert compared(cells(cell)).comparisons.select("preference", "failure", "raw").rows() == [
        (None, "unparsable", raw)
    ]


def test_float_column_has_failures_where_it_is_not_finite() -> None:
    rows = typed(pl.Series([1.5, math.nan, math.inf, -math.inf, None]))
    assert told(scored(rows)) == {1: 1.5, 2: "unparsable", 3: "unparsable", 4: "unparsable", 5: "unrated"}
    assert scored(rows).scores["raw"].to_list() == ["1.5", "nan", "inf", "-inf"]


@pytest.mark.parametrize("dtype", [pl.Int8, pl.UInt64, pl.Float32, pl.Float64, pl.String, pl.Categorical])
def test_score_does_not_depend_on_the_type_of_its_column(dtype: type[pl.DataType]) -> None:
    texts = pl.Series(["4", "0", None])
    found = scored(typed(texts.cast(dtype)), values={"0.0": "unparsable"})
    assert told(found) == {1: 4.0, 2: "unparsable", 3: "unrated"}
    assert found.scores["raw"].to_list() == ["4", "0"]


def test_words_stand_for_their_values_and_come_before_numbers() -> None:
    values = {"good": 5, " bad ": 1, "9": "unrated", "-1": "unparsable", "0": 2.5, "skipped": "unrated", "true": 3}
    rows = cells("good", " bad", 9.0, "9", -1, "-1.0", 0, "skipped", True, 7, "Good")
    assert told(scored(rows, values=values)) == {
        1: 5, 2: 1, 3: "unrated", 4: "unrated", 5: "unparsable", 6: "unparsable", 7: 2.5, 8: "unrated", 9: 3, 10: 7,
        11: "unparsable",
    }  # fmt: skip


def test_empty_cell_is_what_the_mapping_says() -> None:
    rows = cells(None, "", " \n", "1")
    assert told(scored(rows)) == {1: "unrated", 2: "unrated", 3: "unrated", 4: 1}
    failed = scored(rows, missing="unparsable")
    assert told(failed) == {1: "unparsable", 2: "unparsable", 3: "unparsable", 4: 1}
    assert failed.scores["raw"].to_list() == [None, "", " \n", "1"]


def test_csv_cells_are_read_like_any_others() -> None:
    rows = read_csv(b"id,v\n1,4.0\n1,\n1,good\n1\n", "t.csv")
    assert told(scored(rows)) == {2: 4.0, 3: "unrated", 4: "unparsable", 5: "malformed"}


@pytest.mark.parametrize(
    ("scale", "cell", "preference"),
    [
        ((0, 1), 0.25, 0.25),
        ((0, 1), True, 1.0),
        ((1, 0), True, 0.0),
        ((1, 2), 1, 0.0),
        ((1, 2), "2", 1.0),
        ((1, 2), 1.25, 0.25),
        ((2, 1), 1.25, 0.75),
        ((-3, 3), 0, 0.5),
        ((0.1, 0.3), 0.2, 0.5),  # (0.2 - 0.1) / (0.3 - 0.1) is 0.5000000000000001
    ],
)
def test_preference_is_the_place_on_the_scale_from_b_to_a(
    scale: tuple[float, float], cell: Json, preference: float
) -> None:
    assert told(compared(cells(cell), scale=scale)) == {1: preference}


@pytest.mark.parametrize(
    ("scale", "cell"), [((0, 1), 1.0001), ((0, 1), -1), ((1, 2), 0), ((2, 1), 3), ((1, 2), True), ((-1, 1), False)]
)
def test_preference_off_the_scale_is_a_failure_and_never_a_tie(scale: tuple[float, float], cell: Json) -> None:
    assert told(compared(cells(cell), scale=scale)) == {1: "unparsable"}


@settings(max_examples=25)
@given(
    st.tuples(st.integers(-5, 5), st.integers(-5, 5)).filter(lambda scale: scale[0] != scale[1]),
    st.lists(st.floats(-6, 6, allow_nan=False), min_size=1, max_size=20),
)
def test_preferences_of_a_scale_turned_round_add_up_to_one(scale: tuple[int, int], numbers: list[float]) -> None:
    rows = typed(pl.Series(numbers))
    there, back = (compared(rows, scale=ends).comparisons["preference"] for ends in (scale, scale[::-1]))
    inside = [min(scale) <= number <= max(scale) for number in numbers]
    assert there.is_not_null().to_list() == back.is_not_null().to_list() == inside
    assert (there + back - 1).drop_nulls().abs().max() in (None, pytest.approx(0, abs=1e-12))
    ends = {float(scale[0]): 0.0, float(scale[1]): 1.0}
    assert all(ends[number] == p for number, p in zip(numbers, there, strict=True) if number in ends)


def test_codes_for_sides_and_ties_come_before_the_scale() -> None:
    values = {"1": "a", "2": "b", "0": "tie", "Tie": "tie", "much better": 0.9, "garbage": "unparsable", "-": "unrated"}
    rows = cells(1, 2.0, "0", "Tie", "much better", "garbage", "-", "3", "tie")
    assert told(compared(rows, values=values)) == {
        1: 1, 2: 0, 3: 0.5, 4: 0.5, 5: 0.9, 6: "unparsable", 7: "unrated", 8: "unparsable", 9: "unparsable",
    }  # fmt: skip


def test_number_that_is_no_code_never_falls_on_a_scale_nobody_gave() -> None:
    rows = cells("1", "2", "0", 0, 0.5)
    codes = {"1": "a", "2": "b"}
    unread = dict.fromkeys((3, 4, 5), "unparsable")
    assert told(compared(rows, values=codes)) == {1: 1.0, 2: 0.0, **unread}
    assert told(compared(rows, values=codes, scale=(0, 1))) == {1: 1.0, 2: 0.0, 3: 0.0, 4: 0.0, 5: 0.5}


def test_weighted_preferences_with_draws_and_lost_replies_keep_apart() -> None:
    rows = typed(pl.Series([1.0, 2.0, 1.5, 1.75, 0.0, None], dtype=pl.Float32))
    found = compared(rows, scale=(1, 2), values={"0": "tie"}, missing="unparsable")
    assert told(found) == {1: 0, 2: 1, 3: 0.5, 4: 0.75, 5: 0.5, 6: "unparsable"}
    assert found.comparisons["raw"].to_list() == ["1", "2", "1.5", "1.75", "0", None]


def test_one_code_given_twice_is_an_error() -> None:
    with pytest.raises(RecipeError, match=r"`values` has '1' and '1.0', which are the same value"):
        compared(cells(1), values={"1": "a", "1.0": "b"})


@given(st.lists(st.floats(), max_size=20))
def test_numbers_of_a_column_are_written_like_single_ones(numbers: list[float]) -> None:
    assert number_texts(pl.Series(numbers, dtype=pl.Float64)).to_list() == [number_text(n) for n in numbers]


@given(st.lists(st.floats(1e-9, 1e18), max_size=20))
def test_numbers_of_usual_size_are_written_like_single_ones(numbers: list[float]) -> None:
    assert number_texts(pl.Series(numbers, dtype=pl.Float64)).to_list() == [number_text(n) for n in numbers]
