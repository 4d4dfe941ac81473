import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.errors import RecipeError
from prefkit.selection.aggregation import aggregated_score
from prefkit.selection.config import AggregateConfig, MeanAggregate, MinAggregate, VetoAggregate, WeightsAggregate

MEAN = MeanAggregate(kind="mean")
MIN = MinAggregate(kind="min")
ASPECTS = pl.DataFrame(
    {"helpful": [5.0, 4.0, 1.0, None], "honest": [2.0, 4.0, 5.0, 5.0], "safe": [2.0, 1.0, 3.0, 5.0]},
    schema_overrides={"helpful": pl.Float64},
)


def weights(**named: float) -> WeightsAggregate:
    return WeightsAggregate(kind="weights", weights=named)


def test_mean_of_three_aspects_is_their_mean() -> None:
    assert aggregated_score(ASPECTS, MEAN).to_list() == [3.0, 3.0, 3.0, None]


def test_weights_divide_by_their_sum_and_leave_unnamed_aspects_out() -> None:
    # (3 x 5 + 1 x 2) / 4, (3 x 4 + 1 x 1) / 4, (3 x 1 + 1 x 3) / 4
    assert aggregated_score(ASPECTS, weights(helpful=3, safe=1)).to_list() == [4.25, 3.25, 1.5, None]


def test_weights_ignore_a_failure_of_an_unnamed_aspect() -> None:
    assert aggregated_score(ASPECTS, weights(honest=1, safe=1)).to_list() == [2.0, 2.5, 4.0, 5.0]


def test_min_takes_the_worst_aspect_and_knows_none_without_all() -> None:
    assert aggregated_score(ASPECTS, MIN).to_list() == [2.0, 1.0, 1.0, None]


def test_veto_gives_the_floor_below_the_threshold_and_the_mean_at_it() -> None:
    config = VetoAggregate(kind="veto", veto={"safe": 2.0}, floor=-1.0)
    assert aggregated_score(ASPECTS, config).to_list() == [3.0, -1.0, 3.0, None]


def test_rounding_makes_sums_of_tenths_equal() -> None:
    aspects = pl.DataFrame({"a": [0.1, 0.3], "b": [0.2, 0.0]})
    first, second = aggregated_score(aspects, weights(a=1, b=1))
    assert first == second == 0.15


def test_mean_of_a_third_is_rounded_to_nine_decimals() -> None:
    aspects = pl.DataFrame({"a": [1.0], "b": [0.0], "c": [0.0]})
    assert aggregated_score(aspects, MEAN).to_list() == [0.333333333]


def test_unknown_aspect_is_named_with_the_nearest_known_one() -> None:
    with pytest.raises(RecipeError, match=r"'helpfull'.*'helpful'"):
        aggregated_score(ASPECTS, weights(helpfull=1))


def test_no_aspect_at_all_is_refused() -> None:
    with pytest.raises(RecipeError, match="no aspect"):
        aggregated_score(pl.DataFrame(), MEAN)


def test_no_rows_give_no_scores() -> None:
    assert aggregated_score(ASPECTS.clear(), MEAN).dtype == pl.Float64
    assert aggregated_score(ASPECTS.clear(), MEAN).len() == 0


SCORES = st.one_of(st.none(), st.floats(-1e6, 1e6))
CONFIGS: list[AggregateConfig] = [MEAN, MIN, weights(a=0.3, c=0.7), VetoAggregate(kind="veto", veto={"b": 0.0})]


@given(rows=st.lists(st.tuples(SCORES, SCORES, SCORES), min_size=1), config=st.sampled_from(CONFIGS))
def test_score_does_not_depend_on_the_order_of_columns(
    rows: list[tuple[float | None, ...]], config: AggregateConfig
) -> None:
    aspects = pl.DataFrame(rows, {"a": pl.Float64, "b": pl.Float64, "c": pl.Float64}, orient="row")
    assert aggregated_score(aspects, config).equals(aggregated_score(aspects.select("c", "a", "b"), config))


@given(rows=st.lists(st.tuples(SCORES, SCORES, SCORES), min_size=1))
def test_score_is_null_exactly_when_an_aspect_is(rows: list[tuple[float | None, ...]]) -> None:
    aspects = pl.DataFrame(rows, {"a": pl.Float64, "b": pl.Float64, "c": pl.Float64}, orient="row")
    expected = [None in row for row in rows]
    for config in (MEAN, MIN, VetoAggregate(kind="veto", veto={"b": 0.0})):
        assert aggregated_score(aspects, config).is_null().to_list() == expected
