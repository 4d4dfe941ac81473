"""Kills runs at every kind of place, resumes them, and checks that they end as if nobody had killed them.

    python benchmarks/resume.py --kills 50 --json benchmarks/results/resume.json

One trial: a run that samples and learns (an untrained policy of 120,000 parameters, a verifier, 7 steps of 4 pairs) in
a process that dies at a given call of a given function, before it or after it, or by SIGKILL after a random time.
Before a call of `frame` is when half of a frame is on the disk. The run is resumed, sometimes to be killed once or
twice more, until it ends; a kill that struck before anything of it was on the disk is followed by the same command
anew. Then, against a run of the same setting that was never killed:

* the final weights have the same digest;
* the same rows were served, in the same order, and none of them twice;
* the recording has the same micro-batches: no prompt was skipped, and none repeated.

Trials go through the settings in turn; place, call and side are drawn with a seed. A kill that is never reached, as a
later one in a run that is nearly done, does not count.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from signal import SIGKILL

from training_models import Shape, save_policy, text

from prefkit.engines.loading import without_bars
from prefkit.store.runs import Run, Runs
from prefkit.store.workspace import Workspace
from prefkit.stream.events import NewRows
from prefkit.stream.recording import chain
from prefkit.stream.replay import served_rows

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.e2e.killed import KILLED, counted, run, run_for

SHAPE = Shape(2, 64, 128)
PROMPTS = 40
NAME = "words-1"
TIME = "time"
BASE = {"prompts": 4, "args": {"max_steps": 7, "per_device_train_batch_size": 4, "learning_rate": 1e-3, "beta": 0.1}}
SETTINGS: Mapping[str, Mapping[str, object]] = {
    "saves at syncs": {"sync_period": 2, "reference": "behavior", "args": {"save_steps": 2}},
    "saves off syncs": {"sync_period": 3, "reference": "behavior", "args": {"save_steps": 2}},
    "accumulation, one checkpoint, reset": {
        "sync_period": 3, "reference": "reset", "reference_reset_period": 4,
        "args": {
            "save_steps": 2, "save_total_limit": 1, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 2,
        },
    },
    "online, fixed": {"sync_period": 1, "reference": "fixed", "args": {"save_steps": 3}},
}  # fmt: skip
"""What a setting trains by, besides BASE."""


@dataclass(frozen=True, slots=True)
class Kill:
    """Die before or after the `call`-th call (from 1) of a place; or, at place `time`, after `call` milliseconds."""

    place: str
    call: int
    after: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """What a run that has ended did."""

    weights: str
    rows: Sequence[Mapping[str, object]]
    """As they were served."""
    drawn: Sequence[tuple[int, bytes]]
    """Of every micro-batch, in order: the number of its first prompt, and the prompt of each completion."""

    @classmethod
    def of(cls, ended: Run) -> "Seen":
        """From the run's own folder."""
        assert ended.outcome is not None
        recording = ended.folder / "recording"
        events = [frame.event for frame in chain(recording)]
        batches = [event.batch for event in events if isinstance(event, NewRows)]
        return cls(
            ended.outcome.weights,
            [row for table in served_rows(recording) for row in table.to_pylist()],
            [(b.cursor, prompt) for b in batches for prompt in b.facts["completions"]["prompt_id"].to_pylist()],
        )


@dataclass(frozen=True, slots=True)
class Whole:
    """A run that nobody killed, and how long it took."""

    seen: Seen
    calls: Counter[str]
    milliseconds: int

    def kill(self, source: Random) -> Kill:
        """A uniformly chosen place, call and side, or a random time."""
        place = source.choice([*sorted(self.calls), TIME])
        return Kill(place, source.randint(1, self.calls[place] or self.milliseconds), source.random() < 0.5)


@dataclass(frozen=True, slots=True)
class Trial:
    """What a trial saw. All numbers are 0 where nobody killed."""

    setting: str
    kills: Sequence[Kill]
    """Those that struck, in their order."""
    same_weights: bool
    same_rows: bool
    doubled: int
    """Rows that were served again."""
    skipped: int
    """Completions' prompts that the whole run has and this one has not."""
    repeated: int
    """The other way round."""

    @property
    def passed(self) -> bool:
        """Whether the promise held."""
        return self.same_weights and self.same_rows and self.doubled == self.skipped == self.repeated == 0


def prepared(folder: Path, setting: str, policy: Path) -> Path:
    """A workspace with prompts and the recipe of a setting."""
    folder.mkdir()
    Workspace.create(folder)
    random = Random(0)
    prompts = [{"prompt": text(random, SHAPE.vocabulary, 8, 0.3, 4, 16)} for _ in range(PROMPTS)]
    (folder / "problems.jsonl").write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
    (folder / "recipe.yaml").write_text(json.dumps(_recipe(SETTINGS[setting], policy)))
    return folder


def _recipe(setting: Mapping[str, object], policy: Path) -> Mapping[str, object]:
    args = {**BASE["args"], **setting["args"]}  # type: ignore[dict-item]
    return {
        "name": "words",
        "prompts": {"path": "problems.jsonl"},
        "policy": {"model": str(policy)},
        "sample": {"backend": "transformers", "n": 4, "max_new_tokens": 6, "device": "cpu"},
        "score": [{"kind": "verifier", "name": "regex", "pattern": "[02468]$"}],
        "select": {"kind": "correct_vs_incorrect"},
        "hygiene": {"truncated": False},
        "split": {"test": 0.1},
        "train": {"method": "dpo", **BASE, **setting, "args": args},
    }


def whole(folder: Path) -> Whole:
    """Runs to the end in a prepared folder."""
    started = time.perf_counter()
    calls = counted(folder, ["train", "recipe.yaml"])
    milliseconds = int(1000 * (time.perf_counter() - started))
    return Whole(Seen.of(Runs(Workspace.open(folder).root).get(NAME)), calls, milliseconds)


def trial(folder: Path, setting: str, kills: Sequence[Kill], expected: Seen) -> Trial:
    """Runs in a prepared folder under the given kills, one process each, then to the end, and compares."""
    runs, struck = Runs(Workspace.open(folder).root), list[Kill]()
    for kill in [*kills, None]:
        if not _died(folder, runs, kill):
            break
        assert kill is not None
        struck.append(kill)
    seen = Seen.of(runs.get(NAME))
    ids = [row["row_id"] for row in seen.rows]
    drawn, wanted = Counter(seen.drawn), Counter(expected.drawn)
    return Trial(
        setting, struck, seen.weights == expected.weights, seen.rows == expected.rows, len(ids) - len(set(ids)),
        (wanted - drawn).total(), (drawn - wanted).total(),
    )  # fmt: skip


def _died(folder: Path, runs: Runs, kill: Kill | None) -> bool:
    """Begins the run or goes on with it, until it is killed or ends."""
    begun = {run.name: run for run in runs.all()}
    if NAME in begun and begun[NAME].outcome is not None:  # the last kill struck behind its last word
        return False
    arguments = ["train", "--resume", NAME] if NAME in begun else ["train", "recipe.yaml"]
    if kill is None:
        code = run(folder, arguments)
    elif kill.place == TIME:
        code = run_for(folder, arguments, kill.call / 1000)
    else:
        code = run(folder, arguments, kill.place, kill.call, kill.after)
    if code not in (0, KILLED, -SIGKILL):
        raise RuntimeError(f"the run failed instead of dying or ending:\n{(folder / 'output.txt').read_text()[-3000:]}")
    return code != 0


def trials(scratch: Path, kills: int, source: Random) -> dict[str, object]:
    """As many trials as so many kills need, and what they say."""
    with without_bars():
        policy = save_policy(SHAPE, scratch / "policy")
    run(scratch, ["--version"])  # whatever is imported once is, before a run is timed
    names = list(SETTINGS)
    wholes = {name: whole(prepared(scratch / f"whole-{n}", name, policy)) for n, name in enumerate(names)}
    done = list[Trial]()
    while sum(len(t.kills) for t in done) < kills:
        name = names[len(done) % len(names)]
        many = [wholes[name].kill(source) for _ in range(source.choice([1, 1, 2, 3]))]
        folder = prepared(scratch / f"trial-{len(done)}", name, policy)
        done.append(trial(folder, name, many, wholes[name].seen))
        print(f"trial {len(done)}: {'ok' if done[-1].passed else 'FAILED'} {done[-1]}", file=sys.stderr)
    return _report(wholes, done)


def _report(wholes: Mapping[str, Whole], done: Sequence[Trial]) -> dict[str, object]:
    return {
        "settings": {name: {"train": SETTINGS[name], "calls": dict(w.calls)} for name, w in wholes.items()},
        "kills": sum(len(t.kills) for t in done),
        "trials_run": len(done),
        "failed": sum(not t.passed for t in done),
        "kills_by_place": dict(Counter(kill.place for t in done for kill in t.kills)),
        "kills_by_setting": dict(Counter(t.setting for t in done for _ in t.kills)),
        "rows_by_setting": {name: len(w.seen.rows) for name, w in wholes.items()},
        "trials": [asdict(t) for t in done],
    }


def main() -> None:
    """Runs the trials and writes their JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        report = trials(Path(scratch), options.kills, Random(options.seed))
    print(json.dumps({k: v for k, v in report.items() if k != "trials"}, indent=1))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(report["failed"] != 0)


if __name__ == "__main__":
    main()
