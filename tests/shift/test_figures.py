from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest

from prefkit.shift.bootstrap import Bootstrap
from prefkit.shift.data import shift_data
from prefkit.shift.report import report
from prefkit.shift.scores import Scores, row_scores
from prefkit.shift.verdict import Limits
from tests.shift.builders import Reference, rows, samples, version

if TYPE_CHECKING:
    from matplotlib.figure import Figure

pytest.importorskip("matplotlib")

from prefkit.shift import figures

DATA = version(100, sources=("a", "b"), chosen={"unlikelier": 2.0})
SCORES = row_scores(DATA)
REPORT = report(DATA, Limits(), scores=SCORES, bootstrap=Bootstrap(resamples=50))


@pytest.mark.parametrize("draw", [figures.nll_histogram, figures.length_histogram, figures.surprise_histogram])
def test_histogram_shows_each_side_and_the_reference(draw: Callable[[Scores], "Figure"]) -> None:
    figure = draw(SCORES)
    assert figure.axes[0].get_legend_handles_labels()[1] == ["reference", "chosen", "rejected"]
    figure.canvas.draw()


def test_off_support_by_source_draws_the_values_of_the_report() -> None:
    figure = figures.off_support_by_source(REPORT)
    drawn = figure.axes[0].containers[0].lines[0].get_xdata()
    expected = [scope.sides[0].off_support.value for scope in (REPORT.overall, *REPORT.sources.values())]
    assert list(drawn) == expected
    figure.canvas.draw()


def test_kl_by_source_without_behaviour_log_probs_is_empty() -> None:
    figure = figures.kl_by_source(REPORT)
    assert not figure.axes[0].containers
    figure.canvas.draw()


def test_kl_by_source_draws_k1() -> None:
    reference = Reference.of(60, 0)
    drawn = reference.draw(1, 1)
    behavior = -drawn.nll * drawn.tokens + 0.5
    data = shift_data(rows(drawn, "completion", sampling_logps=behavior), samples(reference.draw(4, 2)))
    figure = figures.kl_by_source(report(data, Limits(), bootstrap=Bootstrap(resamples=50)))
    assert figure.axes[0].containers[0].lines[0].get_xdata() == pytest.approx(np.array([0.5]))


def test_staleness_bars_have_the_height_of_the_counts() -> None:
    reference = Reference.of(60, 0)
    frame = rows(reference.draw(1, 1), "completion", staleness=[1, 3, 3] * 20)
    found = report(shift_data(frame, samples(reference.draw(4, 2))), Limits(), bootstrap=Bootstrap(resamples=50))
    figure = figures.staleness_bars(found)
    assert [bar.get_height() for bar in figure.axes[0].patches] == [20, 40]
