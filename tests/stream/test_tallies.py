import pyarrow as pa
import pytest

from prefkit.stream.protocol import MicroBatch
from prefkit.stream.tallies import Tallies
from tests.stream.builders import rows


def batch(outcomes: dict[str, dict[str, int]]) -> MicroBatch:
    return MicroBatch(0, 4, 0, rows(range(3)), {}, outcomes)


def test_staleness_falls_into_bins_that_double_and_rows_without_a_version_into_none() -> None:
    tallies = Tallies()
    for version, count in ((10, 2), (9, 1), (8, 1), (7, 1), (6, 1), (0, 2), (None, 5)):
        tallies.served(rows(range(count), version), 10)
    metrics = tallies.take()
    assert {name: share for name, share in metrics.items() if "staleness" in name} == {
        "stream/staleness_mean": (0 + 0 + 1 + 2 + 3 + 4 + 10 + 10) / 8,
        "stream/staleness/0": 0.25,
        "stream/staleness/1": 0.125,
        "stream/staleness/2-3": 0.25,
        "stream/staleness/4-7": 0.125,
        "stream/staleness/8-15": 0.25,
    }
    assert metrics["stream/rows"] == 13


def test_bins_that_were_ever_seen_stay_so_that_a_chart_has_no_holes() -> None:
    tallies = Tallies()
    tallies.served(rows([1], 8), 10)
    tallies.take()
    tallies.served(rows([1], 10), 10)
    shares = {name: share for name, share in tallies.take().items() if name.startswith("stream/staleness/")}
    assert shares == {"stream/staleness/0": 1.0, "stream/staleness/1": 0.0, "stream/staleness/2-3": 0.0}


def test_rows_served_one_by_one_at_several_steps_count_as_together() -> None:
    one, together = Tallies(), Tallies()
    for step in (3, 4):
        table = rows(range(step), 2)
        together.served(table, step)
        for place in range(step):
            one.served(table.slice(place, 1), step)
    assert one.take() == together.take()


def test_scores_and_counts_by_source_leave_out_what_is_unknown() -> None:
    table = pa.table(
        {
            "source": pa.array(["a", "a", "b", None]),
            "chosen_score": pa.array([1.0, None, 3.0, float("nan")]),
            "rejected_score": pa.array([None] * 4, pa.float64()),
            "policy_version": pa.array([None] * 4, pa.int64()),
        }
    )
    tallies = Tallies()
    tallies.served(table, 1)
    assert tallies.take() == {
        "stream/rows": 4.0,
        "stream/rows/a": 2.0,
        "stream/rows/b": 1.0,
        "stream/chosen_score/a": 1.0,
        "stream/chosen_score/b": 3.0,
        "stream/chosen_score": 2.0,
    }


def test_shares_of_outcomes_add_up_over_micro_batches() -> None:
    tallies = Tallies()
    prompts = {"selected": 2, "no_correct": 1, "no_incorrect": 1, "all_tied": 2, "unscored": 2}
    tallies.drawn(batch({"select": prompts, "select rows": {"tie": 3, "selected": 2}}))
    tallies.drawn(batch({"select": {"selected": 2}, "select rows": {"selected": 1}}))
    tallies.dropped(4)
    metrics = tallies.take()
    assert metrics["stream/share/select/selected"] == 0.4
    assert metrics["stream/share/select_rows/tie"] == 0.5
    assert metrics["stream/tie"] == 0.5
    assert metrics["stream/zero_variance"] == 0.4
    assert (metrics["stream/drawn"], metrics["stream/prompts"], metrics["stream/dropped"]) == (6, 8, 4)


def test_taking_begins_anew() -> None:
    tallies = Tallies()
    tallies.served(rows([1]), 1)
    tallies.drawn(batch({"select": {"selected": 1}}))
    assert tallies.take()
    assert tallies.take() == {}


def test_stage_that_took_no_time_in_a_step_took_none_so_that_a_mean_over_steps_is_right() -> None:
    tallies = Tallies()
    for seconds in (1.5, 0.5):
        tallies.spent("sample", seconds)
    assert tallies.take() == {"stream/seconds/sample": 2.0}
    assert tallies.take() == {"stream/seconds/sample": 0.0}


def test_rewards_are_means_over_completions_whatever_batch_they_came_in() -> None:
    tallies = Tallies()
    for rewards in ({"reward": (3.0, 4), "reward/a": (3.0, 4)}, {"reward": (3.0, 8), "reward/b": (3.0, 8)}):
        tallies.drawn(MicroBatch(0, 4, 0, rows(range(3)), rewards=rewards))
    metrics = tallies.take()
    assert [metrics[f"stream/{name}"] for name in ("reward", "reward/a", "reward/b")] == [0.5, 0.75, 0.375]


def test_lengths_are_those_of_all_completions_and_of_the_rows() -> None:
    tokens = pa.array([[1, 2, 3], [4], None], pa.list_(pa.int32()))  # the last draw failed
    tallies = Tallies()
    tallies.drawn(MicroBatch(0, 4, 0, rows(range(3)), {"completions": pa.table({"token_ids": tokens})}))
    served = {"chosen_ids": [[1, 2, 3], [4]], "rejected_ids": [[1], [2]]}
    tallies.served(pa.table(served), 0)
    metrics = tallies.take()
    names = ("completion_tokens", "chosen_tokens", "rejected_tokens")
    assert [metrics[f"stream/{name}"] for name in names] == [2.0, 2.0, 1.0]


@pytest.mark.parametrize("columns", [["chosen_ids"], ["chosen_ids", "source"]])
def test_rows_without_scores_or_versions_are_counted(columns: list[str]) -> None:
    tallies = Tallies()
    tallies.served(rows(range(4)).select(columns), 1)
    assert tallies.take()["stream/rows"] == 4
