"""The s sweep: DPO online, semi-online and offline, from the same small policies, by one recipe and one knob.

    python benchmarks/online.py --json benchmarks/results/online.json --figure docs/online.png

A policy of 100,000 parameters, trained from nothing and stopped when it is right in 45 % of its draws, learns to add by
DPO: 200 steps of 16 pairs of 16 problems, a random right against a random wrong one of 4 draws. The learning rate is
constant after 20 steps. No problem is drawn twice, 6 % of the problems are held out, and no policy has practised any of
them. Everything is run by prefkit: `train` (and `build`, offline), then `eval` of the final policy on the held-out
problems, 4 draws each at T = 1 and one greedy.

    s           1, 10, 100: steps between syncs of the sampler; inf: never; null: a version that the start policy's
                draws were built into, of which a run takes as many pairs as an online run, each once
    reference   fixed: the start; behavior: the policy that drew the pair; reset: the policy itself, every 50 steps
    seeds       5, each with its own start policy, draws and order

`null` with `reset` is no run: a stored version has no reference model (what prefkit says is in the JSON). `inf` and
`null` with `behavior` must equal `fixed` but for rounding: the start draws all pairs.

Learning rate and beta are those that are best for offline DPO, on two policies that are not in the sweep: chosen for
`null`, `fixed` alone, so they can favour none of the rows that offline is compared with. The grid is in the JSON. Its
range, the batch and the warm-up were settled in about 50 trial runs, which are in no result. A first design was given
up after five runs of one seed, which is in no result either: with 4 pairs of each problem, an online batch held pairs
of 8 problems and a version's shuffled batch pairs of 30, and null ended 8 points above inf for that reason alone.

Criteria, written before the first run of the sweep. Points are percentage points of held-out accuracy at T = 1, means
over seeds; intervals are 95 % by Student's t over seeds; differences are paired by seed. 1 to 6 are asked under every
reference; `behavior` is the one of Lanchantin et al. 2025 (arXiv:2506.21495), whose reference is synced with the
generator; offline of `reset` is `null`, `fixed`.

1. Online and semi-online learn: s = 1 and s = 10 each gain more than 4 points over the start.
2. They beat offline (Lanchantin et al.; Tajwar et al. 2024, arXiv:2404.14367): the intervals of the differences of
   s = 1 and of s = 10 to null lie above 0.
3. Semi-online is as good as online (Lanchantin et al.): s = 1 and s = 10 are less than 3 points apart.
4. So is a long period better than none (Lanchantin et al., verifiable tasks): the interval of s = 100 less null lies
   above 0. In 200 steps there is one sync at s = 100 before the end: a weak form of theirs.
5. Sampling on and on from a policy that does not move is offline (Tang et al. 2024, arXiv:2405.08448): inf and null are
   less than 3 points apart.
6. Online is above offline at equal KL (Tang et al.): s = 1 ends above null, as in 2, at no more KL to the start.
7. Control: random rewards, at s = 1 and null, gain at most 2 points.
8. Control: a learning rate of 0, at s = 1 and null, gains exactly 0, sampled and greedy, in every run.
9. Every start is right in 30 to 60 % of its draws, on at least 500 held-out problems.

Written when all that had been seen: at the learning rate that is best for offline DPO little moves in 200 steps, and
the noise of drawn answers is as large as what differs. So s is swept once more against the fixed reference at 1e-4, the
second best, and accuracy is exact there: the mean probability of the right answer. No criterion is about it.

Runs are made one after the other in this process and each goes into the JSON at once: started again, the command makes
those that are missing. Policies and workspaces lie in `--work`.
"""

import argparse
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import cast

import torch
from online_policy import PROBLEMS, TARGET
from online_report import PERIODS, REFERENCES, draw, higher_table, summarised, tables, write_page
from online_results import Results, Run
from online_runs import SETTINGS, Job, Laboratory

STEPS, SEEDS = 200, 5
FIRST_SEED = 2
HIGHER = 1e-4
"""The second best learning rate of the grid."""
RATES, BETAS = (3e-5, 1e-4, 3e-4), (0.3, 1.0, 3.0)
TUNED_ON = (100, 101)
"""Seeds of the policies that learning rate and beta are chosen on."""
CONTROLLED = ("1", "null")


def grid(steps: int) -> Iterator[Job]:
    """What learning rate and beta are chosen by."""
    for seed in TUNED_ON:
        for rate, beta in product(RATES, BETAS):
            yield Job("grid", "null", "fixed", rate, beta, seed, steps)


def best(runs: Mapping[str, Run]) -> tuple[float, float]:
    """Learning rate and beta of the grid with the highest mean accuracy."""
    found = [run for run in runs.values() if run["part"] == "grid" and "accuracy" in run]
    tried = {(cast(float, run["learning_rate"]), cast(float, run["beta"])) for run in found}
    accuracy = {
        pair: fmean(cast(float, r["accuracy"]) for r in found if (r["learning_rate"], r["beta"]) == pair)
        for pair in tried
    }
    return max(sorted(accuracy), key=lambda pair: accuracy[pair])


def sweep(rate: float, beta: float, steps: int, seeds: int) -> Iterator[Job]:
    """All cells and controls of a seed before the next one."""
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        for reference, period in product(REFERENCES, PERIODS):
            yield Job("sweep", period, reference, rate, beta, seed, steps)
        for period in CONTROLLED:
            yield Job("random", period, "fixed", rate, beta, seed, steps)
            yield Job("zero", period, "fixed", 0.0, beta, seed, steps)


def higher(beta: float, steps: int, seeds: int) -> Iterator[Job]:
    """The sweep at the higher learning rate, against the fixed reference."""
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        for period in PERIODS:
            yield Job("higher", period, "fixed", HIGHER, beta, seed, steps)


def made(jobs: Iterator[Job], results: Results, laboratory: Laboratory) -> None:
    """Makes those runs that are missing."""
    for job in jobs:
        if job.key not in results.runs:
            run = laboratory.done(job)
            results.add(job.key, run)
            told = {name: run[name] for name in ("start", "accuracy", "greedy", "kl", "cpu_seconds") if name in run}
            print(f"{job.key}: {told or run}", flush=True)


def main() -> None:
    """Makes the runs, tells the tables, and writes figure and page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--figure", type=Path, help="the page of the same name gets the tables, where there is one")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "prefkit-online")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    settings = SETTINGS | {"steps": options.steps, "seeds": options.seeds, "problems": PROBLEMS, "stopped_at": TARGET}
    results, laboratory = Results(options.json, settings), Laboratory(options.work.resolve())
    results.note("machine", {"python": platform.python_version(), "torch": torch.__version__, "cores": os.cpu_count()})
    made(grid(options.steps), results, laboratory)
    rate, beta = best(results.runs)
    results.note("chosen", {"learning_rate": rate, "beta": beta})
    made(sweep(rate, beta, options.steps, options.seeds), results, laboratory)
    made(higher(beta, options.steps, options.seeds), results, laboratory)
    runs = list(results.runs.values())
    results.note("summary", summarised(runs))
    print(f"learning rate {rate:g}, beta {beta:g}\n\n{tables(runs)}\n\n{higher_table(runs)}")
    if options.figure:
        draw(runs, options.figure)
        page = options.figure.with_suffix(".md")
        if page.exists():
            write_page(page, runs)


if __name__ == "__main__":
    main()
