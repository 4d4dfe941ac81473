"""What order does: the rows of an online run replayed as recorded, and shuffled within windows of optimizer steps.

    python benchmarks/replay_order.py --json benchmarks/results/replay_order.json --work DIR --page docs/online.md

The setting is that of the s sweep (`benchmarks/online.py`): the same policies, problems, batches and evaluation, at a
learning rate of 1e-4. Of each seed

    online      one run at s = 1
    recorded    `prefkit replay`, in the order in which the run served its rows
    1, 4, 64    `--order shuffle --window N`: the window is N optimizer steps, in which every row may change its place
    all         all rows shuffled
    offline     s = null: the same number of pairs, which the start policy drew

A row keeps its recorded log-probs of the reference in every order, so nothing but the order differs. At window 1 every
step trains on the very rows that it had, in another order within the batch: gradients are the same but for rounding,
so its weights are not the run's bit for bit. Weights apart is the distance between the weights of a replay and the
run's, as a share of the distance that the run came from its start.

Criteria, written before the first full run. Points are percentage points of held-out accuracy at T = 1, means over
seeds; intervals are 95 % by Student's t over seeds; differences are paired by seed. In 2 to 5 accuracy is exact, the
mean probability of the right answer; in 0 and 6, where a run of the sweep is compared, it is that of draws. 1 and 3 to
6 are what Tang et al. 2024 (arXiv:2405.08448) found with IPO, a fixed reference and 4,000 steps: in order the online
run came back, shuffled every 4 batches it hardly changed, every 500 it dropped, and uniformly shuffled it was about as
good as offline.

0. Premise: the online run ends above offline, the interval of the difference above 0. Without it 4 to 6 say nothing.
1. In recorded order the weights are the run's, bit for bit, in every seed.
2. Window 1 ends within 1 point of the run.
3. Window 4 ends within 3 points of the run.
4. Window 64, of 200 steps, ends below the run: the interval of the difference lies below 0.
5. So do all rows shuffled,
6. and these end nearer to offline than to the run.

Every result goes into the JSON at once: started again, the command makes those that are missing. `--work` may hold
policies that the sweep made in the same setting, as `seed-N/policy`; offline runs are taken from the JSON of the sweep
where it has them with the same setting, learning rate and beta.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from online_policy import PROBLEMS, TARGET
from online_results import Results
from online_runs import SETTINGS, Laboratory
from replay_report import Replays
from replay_runs import OFFLINE, ONLINE, REPLAYS, Seed, Setting, key, offline

STEPS, SEEDS = 200, (2, 3, 4, 5, 6)
RATE, BETA = 1e-4, 1.0


def made(setting: Setting, laboratory: Laboratory, results: Results, sweep: Path) -> None:
    """Makes those results of a seed that are missing."""
    missing = [order for order in (ONLINE, *REPLAYS) if key(order, setting.seed) not in results.runs]
    if missing:
        seed = Seed(setting, laboratory)
        for order in missing:
            _keep(seed.online() if order == ONLINE else seed.replayed(order), results)
        seed.forget()
    if key(OFFLINE, setting.seed) not in results.runs:
        _keep(offline(setting, laboratory, sweep), results)


def _keep(run: dict[str, object], results: Results) -> None:
    results.add(key(str(run["order"]), int(str(run["seed"]))), run)
    told = ("start", "accuracy", "greedy", "kl", "same_weights", "apart", "cpu_seconds")
    print(f"{key(str(run['order']), int(str(run['seed'])))}: { ({n: run[n] for n in told if n in run}) }", flush=True)


def main() -> None:
    """Makes the runs, tells the tables, and writes them into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "prefkit-replay")
    parser.add_argument("--page", type=Path, help="gets the tables between its marks")
    parser.add_argument("--sweep", type=Path, default=Path(__file__).parent / "results" / "online.json")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--rate", type=float, default=RATE, help="learning rate")
    parser.add_argument("--beta", type=float, default=BETA)
    parser.add_argument("--reference", choices=("behavior", "fixed", "reset"), default="fixed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    asked = {"steps": options.steps, "rate": options.rate, "beta": options.beta, "reference": options.reference}
    results = Results(options.json, SETTINGS | {"problems": PROBLEMS, "stopped_at": TARGET} | asked)
    laboratory = Laboratory(options.work.resolve())
    for seed in options.seeds:
        setting = Setting(options.reference, options.rate, options.beta, options.steps, seed)
        made(setting, laboratory, results, options.sweep)
    replays = Replays(list(results.runs.values()), options.reference)
    results.note("summary", replays.summarised())
    print(replays.tables())
    if options.page:
        replays.write_page(options.page)


if __name__ == "__main__":
    main()
