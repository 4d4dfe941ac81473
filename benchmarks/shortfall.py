"""Does `prefkit check`, before a training, say how far offline DPO will fall short of online DPO?

    python benchmarks/shortfall.py --json benchmarks/results/shortfall.json --work FOLDER

Policies, problems and learning are those of `online.py`: additions, 100,000 parameters, starts that are right in 45 %
of their draws. A mix is a version whose prompts are answered by the start policy itself (a share `own` of them: 0, 25,
50, 75 %) and by a behaviour policy (the rest); a scorer calls a number right however it is written, and a random right
answer of four is set against a random wrong one. Behaviour policies, two of a kind:

    hot, cold         the start itself, at T = 1.5 and 0.5
    padded, signed    strangers that are as good, but write 00123 and +123
    weak, earlier     a stranger and the start itself when they were right in 25 %
    peer, strong      strangers that are right in 45 and 70 %

With the version that is wholly the start's own these are 33 mixes, each for 3 start policies. Each is checked as a part
of its build and trained on for 150 steps of 16 pairs; online DPO (s = 1) from the same start has the same steps, the
same learning rate (1e-4), beta (1) and reference (the start). Every 15 steps a checkpoint is examined on 1,000 problems
that nobody has practised or been asked.

Written before the first run, but for the budgets, which were set when three trial runs of the first seed (online, its
own data, hot) had shown what KL they reach: the **shortfall** of a mix is accuracy of online less that of offline, in
points, each the highest on its path while KL to the start is at most a budget, averaged over budgets of 0.02, 0.04,
0.08 and 0.16 nats.
The score of the check that predicts it is chosen on the mixes of hot, padded, weak and peer, and reported on those of
cold, signed, earlier and strong and on the start's own: its rank correlation with the shortfall, aimed at 0.8, beside
those of the mean length and of the share of rows that is labelled off-policy. The halves exchanged, and all scores over
all mixes, are shown, too.

Written when the runs of the first seed had been seen: three more scores, reported on the other seeds alone. And since a
check's sequence KL turned out to leave out the sampler's temperature, which was mended, the checks of the versions
built until then were made again, from the same facts.

Runs are made one after the other and each goes into the JSON at once: started again, the command makes those that are
missing. About an hour of one core.
"""

import argparse
import os
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from itertools import product
from pathlib import Path

import torch
import transformers
from marked_page import put_between
from online_policy import PROBLEMS, TARGET
from online_results import Results
from shortfall_mixes import BEHAVIORS, BETA, LEARNING_RATE, ONLINE, PAIRS, SAMPLES, STEPS, Field, Job
from shortfall_report import BUDGETS, summarised, tables

SEEDS = (1, 2, 3)
OWN = (0.0, 0.25, 0.5, 0.75)
WHOLLY_OWN = "own"


def jobs() -> Iterator[Job]:
    """All runs of a start policy before the next one."""
    for seed in SEEDS:
        yield Job(ONLINE, 1.0, seed)
        yield Job(WHOLLY_OWN, 1.0, seed)
        for behavior, own in product(BEHAVIORS, OWN):
            yield Job(behavior, own, seed)


def main() -> None:
    """Makes the runs that are missing, and tells what they say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--page", type=Path, help="a page whose `shortfall` markers get the tables")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "prefkit-shortfall")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    settings = {
        "seeds": list(SEEDS), "own": list(OWN), "behaviors": {n: _told(asdict(b)) for n, b in BEHAVIORS.items()},
        "steps": STEPS, "pairs_per_step": PAIRS, "samples": SAMPLES, "learning_rate": LEARNING_RATE, "beta": BETA,
        "problems": PROBLEMS, "stopped_at": TARGET, "budgets": list(BUDGETS),
    }  # fmt: skip
    results, field = Results(options.json, settings), Field(options.work.resolve())
    results.note("machine", {"python": platform.python_version(), "torch": torch.__version__, "cores": os.cpu_count()})
    for job in jobs():
        if job.key not in results.runs:
            results.add(job.key, field.done(job))
            print(job.key, flush=True)
    runs = list(results.runs.values())
    results.note("summary", summarised(runs))
    print(tables(runs))
    if options.page:
        put_between(options.page, "shortfall", tables(runs))


def _told(behavior: dict[str, object]) -> dict[str, object]:
    """Of functions, the name."""
    return {name: getattr(value, "__name__", value) for name, value in behavior.items()}


if __name__ == "__main__":
    main()
