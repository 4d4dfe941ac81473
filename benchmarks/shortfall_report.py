"""How well what `prefkit check` says before a training ranks mixes by the shortfall of offline DPO on them.

A mix is one point: scores and shortfalls are means over its seeds. The best of the scores is chosen on the mixes of one
half of the behaviour policies, by its rank correlation (Spearman) with the shortfall, and reported on the other half.
Intervals are 95 %, by bootstrap over mixes. Scores that were thought of when the first seed's runs had been seen are
kept apart: with them the choice is made, and reported, on the other seeds alone.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import isfinite, nan
from statistics import fmean
from typing import Any, TypeAlias, cast

import numpy as np
import polars as pl
from online_results import Run
from shortfall_examined import Point, reached
from shortfall_mixes import BEHAVIORS, ONLINE, path_of

BUDGETS = (0.02, 0.04, 0.08, 0.16)
"""Nats of KL to the start, per completion."""
RESAMPLES = 2_000
Shift: TypeAlias = Mapping[str, Any]
"""The report of a check as a version's manifest holds it, of estimates their value alone."""
Score: TypeAlias = Callable[[Shift], float]

CHOOSE, REPORT = tuple(BEHAVIORS)[::2], tuple(BEHAVIORS)[1::2]
"""The behaviour policies whose mixes choose the score, and those whose mixes report it: one of each kind."""


def _of_side(shift: Shift, side: str, path: Sequence[str]) -> float:
    value: Any = next(found for found in shift["overall"]["sides"] if found["side"] == side)
    for name in path:
        value = None if value is None else value[name]
    return nan if value is None else float(value)


def _of_sides(shift: Shift, path: Sequence[str]) -> float:
    return fmean(_of_side(shift, side, path) for side in ("chosen", "rejected"))


def _not(score: Score, shift: Shift) -> float:
    return 1.0 - score(shift)


def _scores() -> dict[str, Score]:
    paths = {
        "off-support": ["off_support"],
        "NLL gap": ["against_samples", "nll_gap"],
        "AUC": ["against_samples", "auc"],
        "sequence KL, k3": ["divergence", "k3"],
        "effective sample lost": ["divergence", "effective_sample"],
    }
    found: dict[str, Score] = {}
    for name, path in paths.items():
        of: dict[str, Score] = {side: partial(_of_side, side=side, path=path) for side in ("chosen", "rejected")}
        for sides, score in (of | {"both": partial(_of_sides, path=path)}).items():
            found[f"{name}, {sides}"] = partial(_not, score) if name.endswith("lost") else score
    found["coverage lost"] = lambda shift: 1.0 - float(shift["coverage"]["share"])
    found["length distance"] = lambda shift: _of_sides(shift, ["against_samples", "length_wasserstein"])
    return found


def _nll_gap_either_way(shift: Shift) -> float:
    return fmean(abs(_of_side(shift, side, ["against_samples", "nll_gap"])) for side in ("chosen", "rejected"))


SCORES: Mapping[str, Score] = _scores()
"""By name; the larger, the further from the start policy."""
LATER: Mapping[str, Score] = {
    "too likely, both": partial(_of_sides, path=["too_likely"]),
    "NLL gap either way": _nll_gap_either_way,
    "NLL of chosen less that of rejected": lambda shift: float(shift["overall"]["chosen_rejected_gap"]),
}
"""Scores that were added after the first seed's runs had been seen."""
SEEN = 1
"""That seed."""
LENGTH, LABEL = "mean length", "share not on-policy (label)"
BASELINES = (LENGTH, LABEL)


@dataclass(frozen=True, slots=True)
class Correlation:
    """Spearman's, over mixes."""

    name: str
    value: float
    low: float
    high: float
    mixes: int

    def __str__(self) -> str:
        return f"{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


def shortfall(online: Sequence[Point], offline: Sequence[Point]) -> float:
    """How far offline ends below online at equal KL, in points of accuracy: the mean over budgets."""
    return 100 * fmean(reached(online, budget) - reached(offline, budget) for budget in BUDGETS)


def mixes(runs: Sequence[Run]) -> pl.DataFrame:
    """A line per mix: what it is, `shortfall`, `final` (that of the last checkpoints), `seeds`, and its scores."""
    online = {run["seed"]: path_of(run) for run in runs if run["behavior"] == ONLINE}
    lines = [_line(run, online[run["seed"]]) for run in runs if run["behavior"] != ONLINE and run["seed"] in online]
    numbers = [name for name in lines[0] if name not in ("mix", "behavior", "own", "seed")]
    by_mix = pl.DataFrame(lines).group_by("mix", "behavior", "own")
    return by_mix.agg(pl.col(numbers).mean(), seeds=pl.len()).sort("behavior", "own")


def _line(run: Run, online: Sequence[Point]) -> dict[str, object]:
    shift, offline = cast(Shift, run["shift"]), path_of(run)
    own = cast(float, run["own"])
    return {
        "mix": f"{run['behavior']}-{100 * own:.0f}", "behavior": run["behavior"], "own": own, "seed": run["seed"],
        "shortfall": shortfall(online, offline), "final": 100 * (online[-1].accuracy - offline[-1].accuracy),
        LENGTH: _of_sides(shift, ["tokens"]), LABEL: 1.0 - own,
        **{name: score(shift) for name, score in {**SCORES, **LATER}.items()},
    }  # fmt: skip


def correlation(found: pl.DataFrame, name: str, of: str = "shortfall") -> Correlation:
    """Of a score with what is to be predicted."""
    known = found.filter(pl.col(name).is_finite())
    random = np.random.default_rng(0)
    drawn = [known[random.integers(known.height, size=known.height)] for _ in range(RESAMPLES)]
    values = [value for value in (_spearman(sample, name, of) for sample in drawn) if isfinite(value)]
    low, high = (float(q) for q in np.quantile(values, [0.025, 0.975])) if values else (nan, nan)
    return Correlation(name, _spearman(known, name, of), low, high, known.height)


def _spearman(found: pl.DataFrame, name: str, of: str) -> float:
    value = found.select(pl.corr(name, of, method="spearman")).item()
    return nan if value is None else float(value)


def halves(found: pl.DataFrame, choose: Sequence[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The mixes that choose and those that report. Data that is wholly on-policy, which belongs to none, reports."""
    return found.filter(pl.col("behavior").is_in(choose)), found.filter(~pl.col("behavior").is_in(choose))


def best(found: pl.DataFrame, scores: Iterable[str]) -> str:
    """The score with the highest rank correlation."""
    values = {name: _spearman(found, name, "shortfall") for name in scores}
    return max((name for name in values if isfinite(values[name])), key=lambda name: values[name])


@dataclass(frozen=True, slots=True)
class Prediction:
    """A score, chosen on one half of the mixes and reported on the other, beside the baselines."""

    scores: str
    """What it was chosen from."""
    chosen_on: Sequence[str]
    seeds: int
    then: Correlation
    """On the half that chose."""
    reported: Sequence[Correlation]


def predictions(runs: Sequence[Run]) -> Iterator[Prediction]:
    """The one that was asked for, the halves exchanged, and both with the later scores."""
    unseen = [run for run in runs if run["seed"] != SEEN]
    for told, scores, used in (("as planned", SCORES, runs), ("with later ones", {**SCORES, **LATER}, unseen)):
        found = mixes(used)
        for choose in (CHOOSE, REPORT):
            chosen_on, reported_on = halves(found, choose)
            chosen = best(chosen_on, scores)
            reported = [correlation(reported_on, name) for name in (chosen, *BASELINES)]
            seeds = len({run["seed"] for run in used})
            yield Prediction(told, choose, seeds, correlation(chosen_on, chosen), reported)


def summarised(runs: Sequence[Run]) -> dict[str, object]:
    """What the runs say, for the JSON."""
    found = mixes(runs)
    every = (*SCORES, *LATER, *BASELINES)
    return {
        "mixes": found.to_dicts(),
        "predictions": [asdict(prediction) for prediction in predictions(runs)],
        "every score, on all mixes": [asdict(correlation(found, name)) for name in every],
    }


def tables(runs: Sequence[Run]) -> str:
    """In Markdown: the predictions, every score, every mix."""
    found = mixes(runs)
    lines = [
        "| scores | chosen on mixes with | seeds | score | where it was chosen | reported | mean length | label |",
        "|---|---|---:|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {p.scores} | {', '.join(p.chosen_on)} | {p.seeds} | {p.then.name} | {p.then} | "
        f"{' | '.join(str(seen) for seen in p.reported)} |"
        for p in predictions(runs)
    ]
    lines += ["", "| score, all mixes | with the shortfall | with that of the last checkpoints |", "|---|---:|---:|"]
    every = (*SCORES, *(f"{name} (later)" for name in LATER), *BASELINES)
    lines += [
        f"| {told} | {correlation(found, name)} | {correlation(found, name, 'final')} |"
        for told, name in zip(every, (*SCORES, *LATER, *BASELINES), strict=True)
    ]
    lines += ["", "| behaviour policy | own prompts | shortfall, points | at the end |", "|---|---:|---:|---:|"]
    lines += [
        f"| {row['behavior']} | {row['own']:.0%} | {row['shortfall']:+.1f} | {row['final']:+.1f} |"
        for row in found.iter_rows(named=True)
    ]
    return "\n".join(lines)
