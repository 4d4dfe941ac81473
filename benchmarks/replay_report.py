"""What replays in other orders say: means over seeds with their intervals, a verdict per criterion, a table."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

from marked_page import put_between
from online_report import Mean, Verdict
from online_results import Run
from replay_runs import OFFLINE, ONLINE, ORDERS, RECORDED, REPLAYS, WINDOWS

ROUNDING, ALIKE = 1.0, 3.0
"""Points: what rounding may do, and what counts as the same."""
BySeed = Mapping[int, float]


class Replays:
    """All runs there are."""

    def __init__(self, runs: Sequence[Run], reference: str) -> None:
        self._runs = runs
        self._reference = reference

    def of(self, order: str) -> Sequence[Run]:
        """Those of an order."""
        return [run for run in self._runs if run["order"] == order]

    def by_seed(self, order: str, name: str, factor: float = 100.0) -> BySeed:
        """A number of each, in points."""
        return {cast(int, run["seed"]): factor * cast(float, run[name]) for run in self.of(order)}

    def over(self, order: str, other: str, name: str) -> Mean:
        """By how many points an order ends above another, paired by seed."""
        ours, theirs = self.by_seed(order, name), self.by_seed(other, name)
        return Mean.of(ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys()))

    def rows(self) -> Iterator[dict[str, object]]:
        """A row of the table for each order that has runs; None where there is nothing to say."""
        for order in ORDERS:
            if self.of(order):
                here = order != OFFLINE
                yield {
                    "order": order,
                    "seeds": len(self.of(order)),
                    "accuracy": Mean.of(self.by_seed(order, "accuracy").values()),
                    "expected": Mean.of(self.by_seed(order, "expected").values()) if here else None,
                    "over_online": self.over(order, ONLINE, "expected" if here else "accuracy")
                    if order != ONLINE
                    else None,
                    "greedy": Mean.of(self.by_seed(order, "greedy").values()),
                    "kl": Mean.of(self.by_seed(order, "kl", 1.0).values()),
                    "apart": Mean.of(self.by_seed(order, "apart").values()) if order in REPLAYS else None,
                }

    def verdicts(self) -> list[Verdict]:
        """The criteria, in their order; none while an order has no run."""
        if not all(self.of(order) for order in ORDERS):
            return []
        premise = self.over(ONLINE, OFFLINE, "accuracy")
        by_window = {window: self.over(window, ONLINE, "expected") for window in WINDOWS}
        left, lost = self.over("all", OFFLINE, "accuracy"), self.over("all", ONLINE, "accuracy")
        same = sum(bool(run["same_weights"]) for run in self.of(RECORDED))
        whole = f"{same} of {len(self.of(RECORDED))}"
        told = [
            ("0. The online run ends above offline", premise.low > 0, f"by {premise}"),
            ("1. In recorded order: the same weights, bit for bit", same == len(self.of(RECORDED)), whole),
            (f"2. Window 1 ends within {ROUNDING:g} point of the run", *_near(by_window["1"], ROUNDING)),
            (f"3. Window 4 ends within {ALIKE:g} points of the run", *_near(by_window["4"], ALIKE)),
            ("4. Window 64 ends below the run", by_window["64"].high < 0, f"by {by_window['64']}"),
            ("5. All rows shuffled end below the run", by_window["all"].high < 0, f"by {by_window['all']}"),
            (
                "6. and nearer to offline than to the run",
                premise.mean > 0 and abs(left.mean) < abs(lost.mean),
                f"all less offline: {left}; all less the run: {lost}",
            ),
        ]
        return [Verdict(criterion, self._reference, holds, numbers) for criterion, holds, numbers in told]

    def summarised(self) -> dict[str, object]:
        """Means and verdicts, for the JSON."""
        rows = [{name: asdict(v) if isinstance(v, Mean) else v for name, v in row.items()} for row in self.rows()]
        return {"orders": rows, "verdicts": [asdict(verdict) for verdict in self.verdicts()]}

    def tables(self) -> str:
        """Both tables, in Markdown."""
        lines = [
            "| rows | seeds | accuracy, drawn % | exact % | less the run, points | greedy % | KL | weights apart % |"
        ]
        lines.append("|---|---:|---:|---:|---:|---:|---:|---:|")
        for row in self.rows():
            drawn, exact, greedy, kl, apart = (
                cast("Mean | None", row[name]) for name in ("accuracy", "expected", "greedy", "kl", "apart")
            )
            told = [_short(drawn), _short(exact), str(row["over_online"] or "-"), _short(greedy), _short(kl, ".3f")]
            named = [_named(str(row["order"])), str(row["seeds"])]
            lines.append(f"| {' | '.join([*named, *told, _short(apart, '.3g')])} |")
        lines += ["", "| criterion | holds | numbers |", "|---|---|---|"]
        lines += [f"| {v.criterion} | {'yes' if v.holds else '**no**'} | {v.numbers} |" for v in self.verdicts()]
        return "\n".join(lines)

    def write_page(self, page: Path) -> None:
        """Puts the tables between the page's marks."""
        put_between(page, "replay", self.tables())


def _near(difference: Mean, points: float) -> tuple[bool, str]:
    return abs(difference.mean) < points, f"by {difference}"


def _short(mean: Mean | None, form: str = ".1f") -> str:
    return "-" if mean is None else format(mean.mean, form)


def _named(order: str) -> str:
    return f"shuffled, window {order}" if order in WINDOWS else order
