"""Selection against what people write: a plain Python loop and pandas, on the same scored completions.

    python benchmarks/selection.py --rows 1000000 --repeats 5 --json benchmarks/results/selection.json

Every cell is one job from scores per aspect to texts: aggregate four aspects, select, gather the texts of what was
selected. Each engine starts from its own native columns, so nobody pays for a conversion. A cell runs in a process of
its own: median seconds of the repeats after one warm-up (the table shows those of the clock, the JSON also those of all
cores), and the peak of resident memory above what the data takes (Linux only). The engines must agree on the number of
rows, and on a sum over them where the strategy leaves no choice. Only prefkit accounts for what was not selected.
"""

import argparse
import json
import math
import multiprocessing
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
import polars as pl

from prefkit.identity import mix64
from prefkit.selection.aggregation import aggregated_score
from prefkit.selection.config import (
    AllPairs,
    BestVsRandom,
    BestVsSecond,
    BestVsWorst,
    CorrectVsIncorrect,
    GradedComparisons,
    RewardWeights,
    SelectConfig,
    Threshold,
    TopKOverall,
    TopKPerPrompt,
    WeightsAggregate,
)
from prefkit.selection.strategies import select

PER_PROMPT = 8
ASPECTS = ("helpful", "honest", "instruction", "truthful")
WEIGHTS = dict.fromkeys(ASPECTS, 1.0)  # sums of quarters: exact in every engine, so ties and bounds agree
MARGIN, CORRECT_AT, DESIRABLE_AT, UNDESIRABLE_AT, TOP_K, OVERALL = 1.0, 3.0, 3.5, 2.5, 2, 100

Columns: TypeAlias = dict[str, list[int] | list[float] | list[str]]
Found: TypeAlias = tuple[int, float | None]
"""Rows selected, and a sum over them that does not depend on random choices."""


@dataclass(frozen=True)
class World:
    """Scored completions and comparisons, as polars frames; the other engines convert them before the clock starts."""

    completions: pl.DataFrame
    comparisons: pl.DataFrame

    @classmethod
    def of(cls, rows: int) -> "World":
        """`rows` completions with integer scores from 1 to 5 and about 200 characters of text."""
        rng = np.random.default_rng(0)
        number = np.arange(rows, dtype=np.uint32)
        words = pl.Series([f"{word:016x} " for word in rng.integers(0, 2**63, 64)])
        text = pl.select(pl.concat_str([words.gather(rng.integers(0, 64, rows)) for _ in range(12)])).to_series()
        completions = pl.DataFrame(
            {
                "prompt": number // PER_PROMPT,
                "candidate": number,
                "key": mix64(number.astype(np.uint64)),
                "length": text.str.len_chars(),
                "source": pl.Series(np.array(["web", "code", "math"])[number // PER_PROMPT % 3]),
                "text": text,
                **{aspect: rng.integers(1, 6, rows).astype(np.float64) for aspect in ASPECTS},
            }
        )
        first = number[number % PER_PROMPT != PER_PROMPT - 1]
        both_orders = np.repeat(first[first + 1 < rows], 2)
        preference = rng.integers(0, 5, len(both_orders)) / 4
        frame = {"prompt": both_orders // PER_PROMPT, "a": both_orders, "b": both_orders + 1, "preference": preference}
        return cls(completions, pl.DataFrame(frame))


def prefkit_job(world: World, config: SelectConfig, total: str | None) -> Found:
    """Aggregate, select, gather."""
    aggregate = WeightsAggregate(kind="weights", weights=WEIGHTS)
    score = aggregated_score(world.completions.select(ASPECTS), aggregate)
    candidates = world.completions.select("prompt", "candidate", "key", score, "length", "source")
    prompts = -(-candidates.height // PER_PROMPT)
    rows = select(candidates, config, prompts=prompts, comparisons=world.comparisons).selected
    for side in {"chosen", "rejected", "candidate"} & set(rows.columns):
        world.completions["text"].gather(rows[side])
    return rows.height, None if total is None else float(rows[total].sum())


@dataclass(frozen=True)
class Lists:
    """The same data as plain lists."""

    completions: Columns
    comparisons: Columns

    @classmethod
    def of(cls, world: World) -> "Lists":
        """Each column as a list."""
        return cls(world.completions.to_dict(as_series=False), world.comparisons.to_dict(as_series=False))

    def scores(self) -> list[float]:
        total = sum(WEIGHTS.values())
        weights = [WEIGHTS[aspect] for aspect in ASPECTS]
        rows = zip(*(self.completions[aspect] for aspect in ASPECTS), strict=True)
        return [sum(w * s for w, s in zip(weights, row, strict=True)) / total for row in rows]

    def groups(self) -> Iterable[list[int]]:
        groups: dict[int, list[int]] = defaultdict(list)
        for row, prompt in enumerate(self.completions["prompt"]):
            groups[prompt].append(row)
        return groups.values()

    def texts(self, pairs: list[tuple[int, int]]) -> tuple[list[str], list[str]]:
        text = self.completions["text"]
        return [text[chosen] for chosen, _ in pairs], [text[rejected] for _, rejected in pairs]


def python_best(data: Lists, against: Callable[[list[int], list[float]], int], exact: bool) -> Found:
    """The highest score against one of the lower ones."""
    scores, pairs, margins = data.scores(), [], []
    for group in data.groups():
        chosen = max(group, key=scores.__getitem__)
        lower = [row for row in group if scores[row] < scores[chosen]]
        if lower:
            rejected = against(lower, scores)
            pairs.append((chosen, rejected))
            margins.append(scores[chosen] - scores[rejected])
    data.texts(pairs)
    return len(pairs), sum(margins) if exact else None


def lowest(rows: list[int], scores: list[float]) -> int:
    """The row of the lowest score."""
    return min(rows, key=scores.__getitem__)


def highest(rows: list[int], scores: list[float]) -> int:
    """The row of the highest score."""
    return max(rows, key=scores.__getitem__)


def any_of(rows: list[int], _: list[float]) -> int:
    """A random row."""
    return random.choice(rows)


def python_all_pairs(data: Lists) -> Found:
    """Two nested loops over each group."""
    scores, pairs, margins = data.scores(), [], []
    for group in data.groups():
        for position, first in enumerate(group):
            for second in group[position + 1 :]:
                margin = scores[first] - scores[second]
                if abs(margin) >= MARGIN:
                    pairs.append((first, second) if margin > 0 else (second, first))
                    margins.append(abs(margin))
    data.texts(pairs)
    return len(pairs), sum(margins)


def python_correct(data: Lists) -> Found:
    """A random row of either side."""
    scores, pairs = data.scores(), []
    for group in data.groups():
        correct = [row for row in group if scores[row] >= CORRECT_AT]
        incorrect = [row for row in group if scores[row] < CORRECT_AT]
        if correct and incorrect:
            pairs.append((random.choice(correct), random.choice(incorrect)))
    data.texts(pairs)
    return len(pairs), None


def python_comparisons(data: Lists) -> Found:
    """Votes in a dict, the widest mean of each prompt."""
    data.scores()
    votes: dict[tuple[int, int], list[float]] = defaultdict(list)
    columns = data.comparisons
    for a, b, preference in zip(columns["a"], columns["b"], columns["preference"], strict=True):
        votes[a, b].append(preference)
    best: dict[int, tuple[float, tuple[int, int]]] = {}
    prompts = data.completions["prompt"]
    for (a, b), values in votes.items():
        margin = 2 * sum(values) / len(values) - 1
        if margin and (prompts[a] not in best or abs(margin) > best[prompts[a]][0]):
            best[prompts[a]] = (abs(margin), (a, b) if margin > 0 else (b, a))
    data.texts([pair for _, pair in best.values()])
    return len(best), sum(margin for margin, _ in best.values())


def python_top_k(data: Lists) -> Found:
    """Sort each group."""
    scores, kept = data.scores(), []
    for group in data.groups():
        kept.extend(sorted(group, key=scores.__getitem__, reverse=True)[:TOP_K])
    [data.completions["text"][row] for row in kept]
    return len(kept), sum(scores[row] for row in kept)


def python_top_overall(data: Lists) -> Found:
    """Sort everything."""
    scores = data.scores()
    kept = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)[: len(scores) // OVERALL]
    [data.completions["text"][row] for row in kept]
    return len(kept), sum(scores[row] for row in kept)


def python_threshold(data: Lists) -> Found:
    """One pass, two comparisons."""
    text, kept = data.completions["text"], []
    for row, score in enumerate(data.scores()):
        if score >= DESIRABLE_AT:
            kept.append((text[row], True))
        elif score <= UNDESIRABLE_AT:
            kept.append((text[row], False))
    return len(kept), sum(label for _, label in kept)


def python_weights(data: Lists) -> Found:
    """A softmax per group."""
    scores, text, kept = data.scores(), data.completions["text"], []
    for group in data.groups():
        best = max(scores[row] for row in group)
        raw = [math.exp(scores[row] - best) for row in group]
        total = sum(raw)
        kept.extend((text[row], weight / total) for row, weight in zip(group, raw, strict=True))
    return len(kept), sum(weight for _, weight in kept)


@dataclass(frozen=True)
class Frames:
    """The same data as pandas frames."""

    completions: pd.DataFrame
    comparisons: pd.DataFrame

    @classmethod
    def of(cls, world: World) -> "Frames":
        """Each frame with the default index and pandas' own string type."""
        frames = (
            pd.DataFrame({name: frame[name].to_numpy() for name in frame.columns})
            for frame in (world.completions.drop("key", "source", "length"), world.comparisons)
        )
        return cls(*frames)

    def scores(self) -> pd.Series:
        weights = np.array([WEIGHTS[aspect] for aspect in ASPECTS])
        return pd.Series(self.completions[list(ASPECTS)].to_numpy() @ weights / weights.sum())

    def texts(self, chosen: np.ndarray, rejected: np.ndarray) -> tuple[pd.Series, pd.Series]:
        return self.completions["text"].take(chosen), self.completions["text"].take(rejected)


def pandas_best_vs_worst(data: Frames) -> Found:
    """`idxmax` and `idxmin` of each group."""
    scores = data.scores()
    groups = scores.groupby(data.completions["prompt"], sort=False)
    chosen, rejected = groups.idxmax().to_numpy(), groups.idxmin().to_numpy()
    margin = scores.to_numpy()[chosen] - scores.to_numpy()[rejected]
    untied = margin > 0
    data.texts(chosen[untied], rejected[untied])
    return int(untied.sum()), float(margin.sum())


def _best_and_lower(data: Frames) -> tuple[pd.Series, pd.Series, pd.DataFrame]:
    scores = data.scores()
    groups = scores.groupby(data.completions["prompt"], sort=False)
    chosen = groups.idxmax()
    below = scores < groups.transform("max")
    return scores, chosen, pd.DataFrame({"prompt": data.completions["prompt"][below], "score": scores[below]})


def pandas_best_vs_second(data: Frames) -> Found:
    """`idxmax`, and `idxmax` again of what is lower."""
    scores, chosen, lower = _best_and_lower(data)
    rejected = lower.groupby("prompt", sort=False)["score"].idxmax()
    chosen = chosen.loc[rejected.index]
    data.texts(chosen.to_numpy(), rejected.to_numpy())
    return len(rejected), float((scores.to_numpy()[chosen] - scores.to_numpy()[rejected]).sum())


def pandas_best_vs_random(data: Frames) -> Found:
    """`idxmax`, and the first of the shuffled rest."""
    _, chosen, lower = _best_and_lower(data)
    rejected = lower.sample(frac=1.0, random_state=0).drop_duplicates("prompt")
    data.texts(chosen.loc[rejected["prompt"]].to_numpy(), rejected.index.to_numpy())
    return len(rejected), None


def pandas_all_pairs(data: Frames) -> Found:
    """A merge of the frame with itself."""
    frame = pd.DataFrame({"prompt": data.completions["prompt"], "score": data.scores()}).reset_index(names="row")
    both = frame.merge(frame, on="prompt", suffixes=("", "_other"))
    both = both[both["score"] - both["score_other"] >= MARGIN]
    data.texts(both["row"].to_numpy(), both["row_other"].to_numpy())
    return len(both), float((both["score"] - both["score_other"]).sum())


def pandas_correct(data: Frames) -> Found:
    """The first of either side after a shuffle."""
    frame = pd.DataFrame({"prompt": data.completions["prompt"], "score": data.scores()}).reset_index(names="row")
    frame = frame.sample(frac=1.0, random_state=0)
    correct = frame["score"] >= CORRECT_AT
    sides = [frame[side].drop_duplicates("prompt")[["prompt", "row"]] for side in (correct, ~correct)]
    both = sides[0].merge(sides[1], on="prompt", suffixes=("", "_other"))
    data.texts(both["row"].to_numpy(), both["row_other"].to_numpy())
    return len(both), None


def pandas_comparisons(data: Frames) -> Found:
    """Mean by pair, `idxmax` by prompt."""
    data.scores()
    mean = data.comparisons.groupby(["a", "b"], sort=False)["preference"].mean().reset_index()
    mean["prompt"] = data.completions["prompt"].to_numpy()[mean["a"]]
    mean["margin"] = (2 * mean["preference"] - 1).abs()
    widest = mean.loc[mean.groupby("prompt", sort=False)["margin"].idxmax()]
    widest = widest[widest["margin"] > 0]
    prefers_a = widest["preference"] > 0.5
    data.texts(
        widest["a"].where(prefers_a, widest["b"]).to_numpy(), widest["b"].where(prefers_a, widest["a"]).to_numpy()
    )
    return len(widest), float(widest["margin"].sum())


def pandas_top_k(data: Frames) -> Found:
    """Sort, then the head of each group."""
    frame = pd.DataFrame({"prompt": data.completions["prompt"], "score": data.scores()})
    kept = frame.sort_values("score", ascending=False).groupby("prompt", sort=False).head(TOP_K)
    data.completions["text"].take(kept.index.to_numpy())
    return len(kept), float(kept["score"].sum())


def pandas_top_overall(data: Frames) -> Found:
    """`nlargest`."""
    scores = data.scores()
    kept = scores.nlargest(len(scores) // OVERALL)
    data.completions["text"].take(kept.index.to_numpy())
    return len(kept), float(kept.sum())


def pandas_threshold(data: Frames) -> Found:
    """A mask."""
    scores = data.scores()
    kept = scores[(scores >= DESIRABLE_AT) | (scores <= UNDESIRABLE_AT)]
    data.completions["text"].take(kept.index.to_numpy())
    return len(kept), float((kept >= DESIRABLE_AT).sum())


def pandas_weights(data: Frames) -> Found:
    """Two transforms."""
    scores, prompts = data.scores(), data.completions["prompt"]
    raw = np.exp(scores - scores.groupby(prompts, sort=False).transform("max"))
    weight = raw / raw.groupby(prompts, sort=False).transform("sum")
    data.completions["text"].take(weight.index.to_numpy())
    return len(weight), float(weight.sum())


@dataclass(frozen=True)
class Contest:
    """One strategy in the three engines; `total` is the column whose sum does not depend on random choices."""

    config: SelectConfig
    total: str | None
    python: Callable[[Lists], Found]
    pandas: Callable[[Frames], Found]


def contests(rows: int) -> dict[str, Contest]:
    """Every strategy, by the name in its configuration."""
    worst = partial(python_best, against=lowest, exact=True)
    second = partial(python_best, against=highest, exact=True)
    random_one = partial(python_best, against=any_of, exact=False)
    bounded = AllPairs(kind="all_pairs", min_score_margin=MARGIN)
    correct = CorrectVsIncorrect(kind="correct_vs_incorrect", correct_at=CORRECT_AT)
    compared = GradedComparisons(kind="comparisons")
    top, overall = TopKPerPrompt(kind="top_k_per_prompt", k=TOP_K), TopKOverall(kind="top_k_overall", k=rows // OVERALL)
    threshold = Threshold(kind="threshold", desirable_at=DESIRABLE_AT, undesirable_at=UNDESIRABLE_AT)
    every = [
        Contest(BestVsWorst(kind="best_vs_worst"), "score_margin", worst, pandas_best_vs_worst),
        Contest(BestVsRandom(kind="best_vs_random"), None, random_one, pandas_best_vs_random),
        Contest(BestVsSecond(kind="best_vs_second"), "score_margin", second, pandas_best_vs_second),
        Contest(bounded, "score_margin", python_all_pairs, pandas_all_pairs),
        Contest(correct, None, python_correct, pandas_correct),
        Contest(compared, "score_margin", python_comparisons, pandas_comparisons),
        Contest(top, "score", python_top_k, pandas_top_k),
        Contest(overall, "score", python_top_overall, pandas_top_overall),
        Contest(threshold, "label", python_threshold, pandas_threshold),
        Contest(RewardWeights(kind="reward_weights"), "weight", python_weights, pandas_weights),
    ]
    return {contest.config.kind: contest for contest in every}


ENGINES = ("prefkit", "python", "pandas")


@dataclass(frozen=True)
class Cell:
    """One engine on one strategy: seconds by the clock and of all cores, MB above the data, and what was found."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    selected: int
    total: float | None


def measure(kind: str, engine: str, rows: int, repeats: int) -> Cell:
    """One cell of the table."""
    contest, world = contests(rows)[kind], World.of(rows)
    if engine == "prefkit":
        job = partial(prefkit_job, world, contest.config, contest.total)
    elif engine == "python":
        job = partial(contest.python, Lists.of(world))
    else:
        job = partial(contest.pandas, Frames.of(world))
    before = _resident_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # makes the peak (VmHWM) start from here
    count, total = job()
    peak = _resident_mb("VmHWM") - before
    seconds, cpu_seconds = [], []
    for _ in range(repeats):
        start, cpu_start = time.perf_counter(), time.process_time()
        job()
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
    return Cell(statistics.median(seconds), statistics.median(cpu_seconds), peak, count, total)


def benchmark(rows: int, repeats: int, kinds: Iterable[str]) -> dict[str, dict[str, Cell]]:
    """Cells by strategy and engine, each measured in a fresh process. Raises AssertionError when engines disagree."""
    table: dict[str, dict[str, Cell]] = {}
    for kind in kinds:
        table[kind] = {}
        for engine in ENGINES:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                table[kind][engine] = pool.apply(measure, (kind, engine, rows, repeats))
        _require_agreement(kind, table[kind])
        print(_line(kind, table[kind]), flush=True)
    return table


def _require_agreement(kind: str, cells: dict[str, Cell]) -> None:
    counts = {engine: cell.selected for engine, cell in cells.items()}
    assert len(set(counts.values())) == 1, f"{kind}: the engines selected different numbers of rows: {counts}"
    totals = [cell.total for cell in cells.values() if cell.total is not None]
    assert all(math.isclose(total, totals[0], rel_tol=1e-6) for total in totals), f"{kind}: sums differ: {totals}"


def _line(kind: str, cells: dict[str, Cell]) -> str:
    own = cells["prefkit"]
    seconds = [f"{cells[engine].seconds:9.3f}" for engine in ENGINES]
    gains = [f"{cells[engine].seconds / own.seconds:7.1f}x" for engine in ENGINES[1:]]
    peaks = [f"{cells[engine].peak_mb:8.0f}" for engine in ENGINES]
    return f"{kind:22}{own.selected:>10,}{''.join(seconds)}{''.join(gains)}{''.join(peaks)}"


def _resident_mb(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def main() -> None:
    """Prints the table and writes the numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="completions, 8 per prompt")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs per cell; the median counts")
    parser.add_argument("--only", nargs="*", metavar="KIND", help="strategies to measure; all by default")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    args = parser.parse_args()
    header = ("prefkit s", "python s", "pandas s", "/python", "/pandas", *(f"{engine} MB" for engine in ENGINES))
    print(f"{'strategy':22}{'selected':>10}", *header)
    table = benchmark(args.rows, args.repeats, args.only or contests(args.rows))
    if args.json:
        cells = {kind: {engine: asdict(cell) for engine, cell in row.items()} for kind, row in table.items()}
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(
            json.dumps({"rows": args.rows, "repeats": args.repeats, "strategies": cells}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
