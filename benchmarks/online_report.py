"""What the runs of the s sweep say: means over seeds with their intervals, a verdict per criterion, a table, a figure.

An interval is Student's t over seeds: each seed has its own start policy, data and order. Differences are taken within
a seed first.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import nan, sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import cast

from marked_page import put_between
from matplotlib.figure import Figure
from online_results import Run

PERIODS = ("1", "10", "100", "inf", "null")
REFERENCES = ("fixed", "behavior", "reset")
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""Number of seeds to the quantile of Student's t that 95 % intervals need."""
GAIN, ALIKE, CHANCE = 4.0, 3.0, 2.0
"""Points: what online must gain, what counts as the same, what random rewards may gain."""
BySeed = Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Mean:
    """Over seeds, with the ends of its 95 % interval: NaN with a single seed."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Mean":
        """Of one value a seed."""
        seen = list(values)
        half = STUDENT[len(seen)] * stdev(seen) / sqrt(len(seen)) if len(seen) in STUDENT else nan
        return cls(fmean(seen), fmean(seen) - half, fmean(seen) + half)

    def __str__(self) -> str:
        return self.text(1)

    def text(self, digits: int) -> str:
        """With so many digits behind the point."""
        return f"{self.mean:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A criterion, whether it holds, and the numbers that say so."""

    criterion: str
    reference: str
    holds: bool
    numbers: str


@dataclass(frozen=True, slots=True)
class Cell:
    """The runs of all seeds that had the same period, reference and part."""

    runs: Sequence[Run]

    def by_seed(self, name: str, less: str | None = None) -> BySeed:
        """A number of each run, or the difference of two."""
        return {cast(int, r["seed"]): _number(r, name) - (_number(r, less) if less else 0.0) for r in self.runs}

    @property
    def gain(self) -> BySeed:
        """Points of accuracy over the start."""
        return _points(self.by_seed("accuracy", "start"))

    @property
    def greedy_gain(self) -> BySeed:
        """The same, of the most likely answers."""
        return _points(self.by_seed("greedy", "start_greedy"))

    def summary(self) -> dict[str, Mean]:
        """Every column of the table."""
        return {
            "accuracy": Mean.of(_points(self.by_seed("accuracy")).values()),
            "gain": Mean.of(self.gain.values()),
            "greedy": Mean.of(_points(self.by_seed("greedy")).values()),
            "greedy_gain": Mean.of(self.greedy_gain.values()),
            "kl": Mean.of(self.by_seed("kl").values()),
            "tokens": Mean.of(self.by_seed("tokens").values()),
        }


@dataclass(frozen=True, slots=True)
class Sweep:
    """All runs there are."""

    runs: Sequence[Run]

    def cell(self, period: str, reference: str, part: str = "sweep") -> Cell:
        """Its runs that have a result."""
        wanted = {"part": part, "period": period, "reference": reference}
        return Cell([r for r in self.runs if "accuracy" in r and all(r[k] == v for k, v in wanted.items())])

    def cells(self, parts: Sequence[str] = ("sweep", "random", "zero")) -> dict[tuple[str, str, str], Cell]:
        """Those that have runs."""
        every = ((part, s, r) for part in parts for r in REFERENCES for s in PERIODS)
        found = {key: self.cell(key[1], key[2], key[0]) for key in every}
        return {key: cell for key, cell in found.items() if cell.runs}

    def verdicts(self) -> list[Verdict]:
        """The criteria, in their order, as far as there are runs."""
        found: list[Verdict] = []
        for reference in REFERENCES:
            cells = {s: self.cell(s, reference) for s in PERIODS}
            cells["null"] = self.cell("null", "fixed" if reference == "reset" else reference)
            if all(cell.runs for cell in cells.values()):
                found += _of_reference(cells, reference)
        return found + _of_controls(self)


def _of_reference(cells: Mapping[str, Cell], reference: str) -> list[Verdict]:
    gains = {s: Mean.of(cell.gain.values()) for s, cell in cells.items()}
    over = {s: _difference(cells[s].gain, cells["null"].gain) for s in PERIODS if s != "null"}
    near = _difference(cells["1"].gain, cells["10"].gain)
    kl = {s: fmean(cells[s].by_seed("kl").values()) for s in ("1", "null")}
    return [
        Verdict(
            f"1. s = 1 and s = 10 gain more than {GAIN:g} points", reference,
            gains["1"].mean > GAIN and gains["10"].mean > GAIN, f"{gains['1']}; {gains['10']}",
        ),
        Verdict(
            "2. s = 1 and s = 10 end above offline", reference,
            over["1"].low > 0 and over["10"].low > 0, f"by {over['1']}; by {over['10']}",
        ),
        Verdict(
            f"3. s = 1 and s = 10 end within {ALIKE:g} points", reference,
            abs(near.mean) < ALIKE, f"s = 1 less s = 10: {near}",
        ),
        Verdict("4. s = 100 ends above offline", reference, over["100"].low > 0, f"by {over['100']}"),
        Verdict(
            f"5. s = inf and offline end within {ALIKE:g} points", reference,
            abs(over["inf"].mean) < ALIKE, f"s = inf less offline: {over['inf']}",
        ),
        Verdict(
            "6. s = 1 ends above offline at no more KL", reference,
            over["1"].low > 0 and kl["1"] <= kl["null"], f"by {over['1']} at KL {kl['1']:.2f} and {kl['null']:.2f}",
        ),
    ]  # fmt: skip


def _of_controls(sweep: Sweep) -> list[Verdict]:
    random = {key[1]: cell for key, cell in sweep.cells(["random"]).items()}
    zero = [run for cell in sweep.cells(["zero"]).values() for run in cell.runs]
    every = [run for cell in sweep.cells(["sweep"]).values() for run in cell.runs]
    found: list[Verdict] = []
    if random:
        gains = {s: Mean.of(cell.gain.values()) for s, cell in random.items()}
        told = "; ".join(f"s = {s}: {gain}" for s, gain in gains.items())
        holds = all(gain.mean <= CHANCE for gain in gains.values())
        found.append(Verdict(f"7. Random rewards gain at most {CHANCE:g} points", "fixed", holds, told))
    if zero:
        moved = sum(r["accuracy"] != r["start"] or r["greedy"] != r["start_greedy"] for r in zero)
        told = f"{moved} of {len(zero)} runs moved"
        found.append(Verdict("8. A learning rate of 0 gains exactly 0", "fixed", moved == 0, told))
    if every:
        starts = sorted({_number(run, "start") for run in every})
        held_out = min(_number(run, "held_out") for run in every)
        holds = all(0.3 <= start <= 0.6 for start in starts) and held_out >= 500
        told = f"{100 * starts[0]:.1f} to {100 * starts[-1]:.1f} %, {held_out:.0f} held out"
        found.append(Verdict("9. Starts lie at 30 to 60 % of 500 or more held-out problems", "", holds, told))
    return found


def summarised(runs: Sequence[Run]) -> dict[str, object]:
    """The means of every cell and the verdicts, for the JSON."""
    sweep = Sweep(runs)
    cells = [
        {"part": part, "period": s, "reference": r, "seeds": len(cell.runs)}
        | {name: asdict(mean) for name, mean in cell.summary().items()}
        for (part, s, r), cell in sweep.cells().items()
    ]
    return {"cells": cells, "verdicts": [asdict(verdict) for verdict in sweep.verdicts()]}


def higher_table(runs: Sequence[Run]) -> str:
    """What the sweep at the higher learning rate says, by exact accuracy, in Markdown."""
    sweep = Sweep(runs)
    cells = {s: sweep.cell(s, "fixed", "higher") for s in PERIODS}
    gains = {s: _points(cell.by_seed("expected", "expected_start")) for s, cell in cells.items()}
    lines = [
        "| s | exact accuracy % | gain, points | less null | KL, nats | less null |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for s, cell in cells.items():
        kl, kl_null = cell.by_seed("kl"), cells["null"].by_seed("kl")
        less, kl_less = _difference(gains[s], gains["null"]), _difference(kl, kl_null)
        accuracy = fmean(_points(cell.by_seed("expected")).values())
        lines.append(
            f"| {s} | {accuracy:.1f} | {Mean.of(gains[s].values())} | {less if s != 'null' else '-'} | "
            f"{fmean(kl.values()):.3f} | {kl_less.text(3) if s != 'null' else '-'} |"
        )
    return "\n".join(lines)


def tables(runs: Sequence[Run]) -> str:
    """Both tables, in Markdown."""
    sweep = Sweep(runs)
    names = {"random": "random rewards, ", "zero": "learning rate 0, ", "sweep": ""}
    lines = ["| s | reference | accuracy % | gain, points | greedy % | greedy gain | KL, nats | tokens |"]
    lines.append("|---|---|---:|---:|---:|---:|---:|---:|")
    for (part, period, reference), cell in sweep.cells().items():
        row = cell.summary()
        lines.append(
            f"| {names[part]}{period} | {reference} | {row['accuracy'].mean:.1f} | {row['gain']} | "
            f"{row['greedy'].mean:.1f} | {row['greedy_gain']} | {row['kl'].mean:.3f} | {row['tokens'].mean:.2f} |"
        )
    lines += ["", "| criterion | reference | holds | numbers |", "|---|---|---|---|"]
    for v in sweep.verdicts():
        lines.append(f"| {v.criterion} | {v.reference} | {'yes' if v.holds else '**no**'} | {v.numbers} |")
    return "\n".join(lines)


FIGURE = "![Gain in held-out accuracy by sync period, and by KL to the start](online.png)"


def write_page(page: Path, runs: Sequence[Run]) -> None:
    """Puts the tables and the figure between the page's markers."""
    put_between(page, "sweep", f"{tables(runs)}\n\n{FIGURE}")
    put_between(page, "higher", higher_table(runs))


def draw(runs: Sequence[Run], path: Path) -> None:
    """Gain by sync period, and gain by KL, one colour a reference."""
    cells = Sweep(runs).cells(["sweep"])
    figure = Figure(figsize=(10, 4), layout="constrained")
    by_period, by_kl = figure.subplots(1, 2)
    for offset, reference in enumerate(REFERENCES):
        rows = [(s, cells["sweep", s, reference].summary()) for s in PERIODS if ("sweep", s, reference) in cells]
        gains = [row["gain"] for _, row in rows]
        means, halves = [gain.mean for gain in gains], [gain.high - gain.mean for gain in gains]
        places = [PERIODS.index(s) + (offset - 1) * 0.15 for s, _ in rows]
        by_period.errorbar(places, means, halves, fmt="o", capsize=3, label=reference)
        by_kl.errorbar([row["kl"].mean for _, row in rows], means, halves, fmt="o", capsize=3, label=reference)
        for (s, row), mean in zip(rows, means, strict=True):
            by_kl.annotate(f" {s}", (row["kl"].mean, mean))
    by_period.set_xticks(range(len(PERIODS)), PERIODS)
    by_period.set(xlabel="sync period s (null: offline)", ylabel="gain in held-out accuracy, points")
    by_kl.set(xlabel="KL to the start, nats per completion", xscale="log")
    for axes in (by_period, by_kl):
        axes.axhline(0, color="grey", linewidth=0.8)
    by_period.legend(title="reference")
    figure.savefig(path, dpi=120)


def _number(run: Run, name: str) -> float:
    return cast(float, run[name])


def _points(shares: BySeed) -> BySeed:
    return {seed: 100 * share for seed, share in shares.items()}


def _difference(ours: BySeed, theirs: BySeed) -> Mean:
    return Mean.of(ours[seed] - theirs[seed] for seed in ours.keys() & theirs.keys())
