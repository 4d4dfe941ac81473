"""A figure per statistic. Each function returns a matplotlib Figure that no window and no global state knows of.

Sides have the same colour in every figure (Okabe and Ito 2008, told apart by colour-blind readers); the reference's own
samples are grey.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from prefkit.errors import MissingExtraError
from prefkit.shift.bootstrap import Estimate
from prefkit.shift.data import Floats, Side
from prefkit.shift.report import ShiftReport
from prefkit.shift.scores import Scores
from prefkit.shift.statistics import SideStatistics, floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS: Mapping[Side, str] = {"chosen": "#0072B2", "rejected": "#D55E00", "completion": "#009E73"}
GREY = "#888888"
BINS = 60


def require_matplotlib() -> None:
    """Raises MissingExtraError where there is no matplotlib: before there is anything to draw."""
    _empty("", "")


def every_figure(scores: Scores, report: ShiftReport) -> "dict[str, Figure]":
    """The figures that have something to show, by name."""
    found = {
        "nll": nll_histogram(scores),
        "surprise": surprise_histogram(scores),
        "length": length_histogram(scores),
        "off_support": off_support_by_source(report),
    }
    if any(side.divergence for side in report.overall.sides):
        found["kl"] = kl_by_source(report)
    if report.staleness.counts:
        found["staleness"] = staleness_bars(report)
    return found


def nll_histogram(scores: Scores) -> "Figure":
    """NLL per token of each side and of the reference's own samples, as densities over common bins."""
    return _histogram(scores, "nll", "NLL per token under the reference (nats)", logarithmic=False)


def length_histogram(scores: Scores) -> "Figure":
    """Lengths of each side and of the reference's own samples, on a logarithmic axis."""
    return _histogram(scores, "tokens", "tokens", logarithmic=True)


def surprise_histogram(scores: Scores) -> "Figure":
    """Surprise of each side and of the reference's own samples, with the ends of the reference's own range."""
    figure = _histogram(scores, "surprise", "surprise (standard deviations)", logarithmic=False)
    for end in (scores.own_range.lower, scores.own_range.upper):
        figure.axes[0].axvline(end, color=GREY, linestyle="--", linewidth=1)
    return figure


def off_support_by_source(report: ShiftReport) -> "Figure":
    """Share of off-support rows by source and side, with intervals; dashed: the nominal share, dotted: the limit."""
    figure, axes = _by_source(report, lambda side: side.off_support, "share of rows off-support")
    axes.axvline(report.own_range.nominal, color=GREY, linestyle="--", linewidth=1)
    axes.axvline(report.limits.off_support, color=GREY, linestyle=":", linewidth=1)
    return figure


def kl_by_source(report: ShiftReport) -> "Figure":
    """Sequence KL (k1) by source and side, with intervals, where behaviour log-probs are known."""
    figure, _ = _by_source(
        report,
        lambda side: side.divergence and side.divergence.k1,
        "sequence KL from behaviour policy to reference, k1 (nats)",
    )
    return figure


def staleness_bars(report: ShiftReport) -> "Figure":
    """Rows by staleness."""
    figure, axes = _empty("staleness (optimizer steps)", "rows")
    counts = report.staleness.counts
    axes.bar(list(counts), list(counts.values()), color=COLOURS["completion"])
    return figure


def _histogram(scores: Scores, name: str, label: str, *, logarithmic: bool) -> "Figure":
    series: list[tuple[str, str, Floats]] = [("reference", GREY, floats(scores.samples, name))]
    for side, colour in COLOURS.items():
        of = scores.rows.filter(side=side)
        if of.height:
            series.append((side, colour, floats(of, name)))
    figure, axes = _empty(label, "density")
    bins = _bins(np.concatenate([values for _, _, values in series]), logarithmic=logarithmic)
    for told, colour, values in series:
        filled = "stepfilled" if colour == GREY else "step"
        axes.hist(
            np.clip(values, bins[0], bins[-1]),
            bins=bins.tolist(),
            density=True,
            histtype=filled,
            color=colour,
            label=told,
            alpha=0.5 if colour == GREY else 1.0,
        )
    if logarithmic:
        axes.set_xscale("log")
    axes.legend(frameon=False)
    return figure


def _bins(values: Floats, *, logarithmic: bool) -> Floats:
    """Common bins from the 0.1 % to the 99.9 % point; what lies outside is drawn in the first and the last."""
    low, high = (float(end) for end in np.quantile(values, [0.001, 0.999]))
    high = max(high, low + 1e-6)
    if not logarithmic:
        return np.linspace(low, high, BINS + 1)
    return np.unique(np.round(np.geomspace(low, high + 1, BINS // 2 + 1))) - 0.5  # lengths are whole numbers


def _by_source(
    report: ShiftReport, value: Callable[[SideStatistics], Estimate | None], label: str
) -> "tuple[Figure, Axes]":
    """One line per source, the whole version on top; sides beside each other."""
    scopes = [("all", report.overall), *(report.sources.items() if len(report.sources) > 1 else ())]
    figure, axes = _empty(label, "", height=1.2 + 0.4 * len(scopes))
    for nth, side in enumerate(report.overall.sides):
        places: list[float] = []
        found: list[Estimate] = []
        for line, (_, scope) in enumerate(scopes):
            of = scope.side(side.side)
            estimate = of and value(of)
            if estimate:
                places.append(line + 0.15 * nth)
                found.append(estimate)
        _points(axes, found, places, side.side)
    axes.set_yticks(range(len(scopes)), [name for name, _ in scopes])
    axes.invert_yaxis()
    if any(axes.get_legend_handles_labels()[1]):
        axes.legend(frameon=False)
    return figure, axes


def _points(axes: "Axes", found: Sequence[Estimate], places: Sequence[float], side: Side) -> None:
    if not found:
        return
    values = np.array([estimate.value for estimate in found])
    ends = np.array([[estimate.low, estimate.high] for estimate in found]).T
    reach = np.nan_to_num(np.maximum([values - ends[0], ends[1] - values], 0.0))
    axes.errorbar(values, places, xerr=reach, fmt="o", markersize=4, capsize=2, color=COLOURS[side], label=side)


def _empty(x_label: str, y_label: str, height: float = 3.6) -> "tuple[Figure, Axes]":
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            "figures need matplotlib, which is not installed: pip install prefkit[cards]"
        ) from error
    figure = Figure(figsize=(6.4, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
