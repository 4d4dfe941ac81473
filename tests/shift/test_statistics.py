import numpy as np
import polars as pl
import pytest

from prefkit.shift.bootstrap import Bootstrap
from prefkit.shift.data import shift_data
from prefkit.shift.scores import row_scores
from prefkit.shift.statistics import SideStatistics, every_scope, scope_statistics
from tests.shift.builders import Reference, rows, samples, version

QUICK = Bootstrap(resamples=200)


def side(data_rows: pl.DataFrame, sample_rows: pl.DataFrame) -> SideStatistics:
    scores = row_scores(shift_data(data_rows, sample_rows))
    return scope_statistics(scores.rows, scores.samples, QUICK).sides[0]


def test_gaps_are_paired_by_prompt_and_by_row() -> None:
    scores = row_scores(version(50))
    scope = scope_statistics(scores.rows, scores.samples, QUICK)
    nll = {name: scores.rows.filter(side=name)["nll"].to_numpy() for name in ("chosen", "rejected")}
    of_prompt = scores.samples.group_by("prompt").agg(pl.col("nll").mean()).sort("prompt")["nll"].to_numpy()
    assert scope.chosen_rejected_gap
    assert scope.chosen_rejected_gap.value == pytest.approx((nll["chosen"] - nll["rejected"]).mean())
    assert scope.sides[0].against_samples
    assert scope.sides[0].against_samples.nll_gap.value == pytest.approx((nll["chosen"] - of_prompt).mean())


def test_on_policy_rows_show_nothing_and_unlikelier_ones_show_everywhere() -> None:
    scores = row_scores(version(600, chosen={"unlikelier": 1.4, "longer": 1.5}))
    chosen, rejected = scope_statistics(scores.rows, scores.samples, QUICK).sides
    assert chosen.against_samples
    assert rejected.against_samples
    assert chosen.off_support.low > 0.1 > rejected.off_support.high
    assert chosen.against_samples.nll_gap.low > 0.3
    assert chosen.against_samples.auc.low > 0.75
    assert chosen.against_samples.length_wasserstein.low > 20
    assert chosen.against_samples.told_apart.p_value < 1e-6
    assert rejected.against_samples.nll_gap.low < 0 < rejected.against_samples.nll_gap.high
    assert rejected.against_samples.auc.low < 0.5 < rejected.against_samples.auc.high


def test_divergence_of_normal_log_ratios_is_their_closed_form() -> None:
    # With log(q / p) ~ Normal(d, 2 d) under q, d = 0.3: KL(q, p) = 0.3, and the effective share is exp(-2 d) = 0.549
    reference = Reference.of(4000, 0)
    drawn = reference.draw(1, 1)
    behavior = -drawn.nll * drawn.tokens + np.random.default_rng(0).normal(0.3, 0.6**0.5, 4000)
    found = side(rows(drawn, "completion", sampling_logps=behavior), samples(reference.draw(1, 2))).divergence
    assert found
    assert found.k1.low <= 0.3 <= found.k1.high
    assert found.k3.value == pytest.approx(0.3, abs=0.03)
    assert found.effective_sample.low <= np.exp(-0.6) <= found.effective_sample.high
    assert found.k3.se < found.k1.se


def test_rows_of_prompts_without_samples_have_nothing_to_compare_with() -> None:
    reference = Reference.of(80, 0)
    drawn, known = reference.draw(1, 1), reference.draw(4, 2)
    found = side(rows(drawn.where(drawn.prompts >= 50), "chosen"), samples(known.where(known.prompts < 50)))
    assert found.against_samples is None
    assert found.nll.rows == 30


def test_sources_are_worked_out_on_their_own_prompts() -> None:
    data = version(400, sources=("a", "b"))
    rows_of_b = pl.when(source="b").then(pl.col("logps") * 1.6).otherwise(pl.col("logps"))
    scores = row_scores(shift_data(data.rows.with_columns(logps=rows_of_b), data.samples))
    overall, sources = every_scope(scores, QUICK)
    assert list(sources) == ["a", "b"]
    assert (sources["a"].rows, sources["a"].samples, overall.samples) == (200, 800, 1600)
    chosen = {name: scope.sides[0].off_support for name, scope in sources.items()}
    assert chosen["a"].high < 0.05 < 0.3 < chosen["b"].low
    assert overall.sides[0].off_support.value == pytest.approx((chosen["a"].value + chosen["b"].value) / 2)
