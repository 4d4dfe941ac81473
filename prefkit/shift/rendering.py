"""A shift report as plain lines for a terminal. What is known only where a policy's log-probs are is left out else."""

from collections.abc import Callable, Sequence
from math import isnan
from textwrap import wrap

from prefkit.shift.bootstrap import Estimate
from prefkit.shift.data import Side
from prefkit.shift.report import ShiftReport
from prefkit.shift.statistics import ScopeStatistics, SideStatistics
from prefkit.shift.verdict import ORIGINS

UNKNOWN = "-"
WIDTH = 100
MOST_SOURCES = 20


def lines(report: ShiftReport) -> list[str]:
    """The report from top to bottom: what was compared, statistics, sources, notes, verdict, gate."""
    overall = report.overall
    compared = f"{_count(overall.rows, 'row')} of {_count(overall.prompts, 'prompt')}"
    return [
        f"{compared} against {_count(overall.samples, 'sample')} of the reference itself",
        "",
        *aligned_lines(_statistics(overall)),
        *_sources(report),
        *_notes(report),
        "",
        *_verdict(report),
        *_gate(report),
    ]


def _statistics(scope: ScopeStatistics) -> list[list[str]]:
    kinds: list[tuple[str, Callable[[SideStatistics], Estimate | None], Callable[[Estimate | None], str], str]] = [
        ("NLL per token", lambda s: s.nll, number, number(scope.sample_nll)),
        ("  above the reference's own", lambda s: s.against_samples and s.against_samples.nll_gap, number, ""),
        ("off-support", lambda s: s.off_support, percent, ""),
        ("too likely", lambda s: s.too_likely, percent, ""),
        ("AUC against its samples", lambda s: s.against_samples and s.against_samples.auc, number, ""),
        ("tokens", lambda s: s.tokens, number, number(scope.sample_tokens)),
        ("  KS", lambda s: s.against_samples and s.against_samples.length_ks, number, ""),
        ("  Wasserstein-1", lambda s: s.against_samples and s.against_samples.length_wasserstein, number, ""),
        ("cut at the longest length", lambda s: s.cut, percent, ""),
        ("sequence KL, k1", lambda s: s.divergence and s.divergence.k1, number, ""),
        ("  k2", lambda s: s.divergence and s.divergence.k2, number, ""),
        ("  k3", lambda s: s.divergence and s.divergence.k3, number, ""),
        ("effective sample", lambda s: s.divergence and s.divergence.effective_sample, percent, ""),
    ]
    table = [["", *(side.side for side in scope.sides), "reference"]]
    for name, value, told, own in kinds:
        cells = [told(value(side)) for side in scope.sides]
        if any(cell != UNKNOWN for cell in cells):
            table.append([name, *cells, own])
    return table


def _sources(report: ShiftReport) -> list[str]:
    if len(report.sources) < 2:
        return []
    sides: list[Side] = [side.side for side in report.overall.sides]
    worst = sorted(report.sources.items(), key=lambda item: -_at_least(item[1]))
    table = [["off-support by source", *sides, "rows"]]
    for name, scope in worst[:MOST_SOURCES]:
        found = [scope.side(side) for side in sides]
        table.append([name, *(percent(side and side.off_support) for side in found), f"{scope.rows:,}"])
    left = len(worst) - MOST_SOURCES
    return ["", *aligned_lines(table), *([f"and {_count(left, 'source')} with less"] if left > 0 else [])]


def _notes(report: ShiftReport) -> list[str]:
    notes: list[str] = []
    if report.overall.chosen_rejected_gap:
        notes.append(f"NLL per token of chosen less rejected: {number(report.overall.chosen_rejected_gap)}")
    for side in report.overall.sides:
        if side.against_samples:
            test = side.against_samples.told_apart
            can = "can" if test.p_value < 0.05 else "cannot"
            notes.append(f"{side.side} {can} be told from the reference's own samples ({_chance(test.p_value)})")
    if report.coverage:
        notes += wrap(f"coverage: {report.coverage.words}", WIDTH, subsequent_indent="  ")
    if report.staleness.counts:
        oldest = max(report.staleness.counts)
        notes.append(f"staleness: {report.staleness.mean:.3g} optimizer steps on average, {oldest} at most")
    if report.retokenised:
        notes.append(
            f"{_count(report.retokenised, 'completion')} sampled by another tokenizer: text to the reference, without "
            "its token ids"
        )
    if report.unscored:
        notes.append(f"{_count(report.unscored, 'completion')} could not be scored and are in no number above")
    return ["", *notes]


def _verdict(report: ShiftReport) -> list[str]:
    limits = report.limits
    below = [
        *report.verdict.reasons,
        report.verdict.evidence,
        f"off-support limit {limits.off_support:g}: {ORIGINS['max_off_support']}",
        f"NLL gap limit {limits.nll_gap:g}: {ORIGINS['max_nll_gap']}",
    ]
    folded = [wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ") for text in below]
    words = wrap(f"verdict: {report.verdict.words}", WIDTH, subsequent_indent="  ")
    return [*words, *(line for lines in folded for line in lines)]


def _gate(report: ShiftReport) -> list[str]:
    if report.crossed:
        return [f"gate: crossed: {crossing.words}" for crossing in report.crossed]
    limits = (report.limits.max_off_support, report.limits.max_nll_gap)
    return ["gate: none in the recipe" if limits == (None, None) else "gate: holds"]


def number(estimate: Estimate | None) -> str:
    """`1.23 [1.20, 1.26]`; without an interval where there is none."""
    if estimate is None:
        return UNKNOWN
    return f"{estimate.value:.3g}" + ("" if isnan(estimate.low) else f" [{estimate.low:.3g}, {estimate.high:.3g}]")


def percent(estimate: Estimate | None) -> str:
    """`12.3 % [10.1, 14.6]`; without an interval where there is none."""
    if estimate is None:
        return UNKNOWN
    low, high = 100 * estimate.low, 100 * estimate.high
    return f"{100 * estimate.value:.1f} %" + ("" if isnan(low) else f" [{low:.1f}, {high:.1f}]")


def _chance(p_value: float) -> str:
    return "p < 1e-12" if p_value < 1e-12 else f"p = {p_value:.2g}"


def _at_least(scope: ScopeStatistics) -> float:
    """What the worse side's off-support share is at least, so that sources of three rows do not come first."""
    return max(0.0 if isnan(side.off_support.low) else side.off_support.low for side in scope.sides)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def aligned_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line for each row, with the cells of a column below each other."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
