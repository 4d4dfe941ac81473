"""Kills builds at every kind of place, resumes them, and checks that nothing acknowledged was lost or done twice.

    python benchmarks/crash.py --kills 200 --json benchmarks/results/crash.json

One trial: a build of a fixed recipe (fake sampler, verifiers, small batches) runs in a child process that dies by
SIGKILL at a given call of a given input or output function, or after a random time. It is started again, sometimes to
be killed once more, until it finishes. Then:

* the version's files and its content hash equal those of a build that was never killed, byte for byte;
* every row acknowledged before a kill is in the table, with the batch id it was acknowledged under;
* no acknowledged key was asked of the sampler or a scorer again, and no key has two rows.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

PROMPTS = 60
RECIPE = {
    "name": "crash",
    "prompts": {"path": "problems.jsonl"},
    "sample": {"backend": "fake", "n": 8, "batch_size": 16},
    "score": [
        {"kind": "verifier", "name": "regex", "pattern": "1", "batch_size": 32},
        {"kind": "verifier", "name": "length", "max": 40, "batch_size": 64},
    ],
    "select": {"kind": "best_vs_worst"},
    "split": {"test": 0.2},
}
POINTS = ("fsync", "fragments", "commit", "merge", "rename", "replace", "append_durably")
"""The functions at whose calls a build is killed."""


@dataclass(frozen=True)
class Kill:
    """Die `before` or after the `call`-th call (from 1) of a point; or, at point `time`, after `call` milliseconds."""

    point: str
    call: int
    before: bool


@dataclass(frozen=True)
class Trial:
    """What a trial saw. All but `kills` must be as in a build that was never killed."""

    kills: list[Kill]
    died: int
    """How many of the kills struck before the build was done."""
    same_content: bool
    lost: int
    repeated: int
    doubled: int

    @property
    def passed(self) -> bool:
        """Whether the promise held."""
        return self.same_content and self.lost == self.repeated == self.doubled == 0


def child(folder: Path, kill: Kill | None) -> None:
    """Builds the recipe in `folder`, logs what is asked and what is acknowledged, and dies where it is told to."""
    import prefkit.pipeline.build as pipeline
    from prefkit.pipeline.recipe import Recipe
    from prefkit.store.workspace import Workspace

    calls = _instrumented(kill)
    _log_requests(pipeline, folder)
    workspace = Workspace.open(folder)
    append = workspace.facts.append

    def acknowledged(table, rows):  # type: ignore[no-untyped-def]
        batch_id = append(table, rows)
        _note(folder / "acknowledged", [f"{table.name} {i.hex()} {batch_id.hex()}" for i in rows["id"].to_pylist()])
        return batch_id

    workspace.facts.append = acknowledged
    pipeline.build(Recipe.model_validate(RECIPE), workspace, folder)
    (folder / "calls.json").write_text(json.dumps(calls))


def _instrumented(kill: Kill | None) -> Counter[str]:
    """Counts the calls of every point, and dies at one of them."""
    import lance
    from lance.optimize import Compaction

    import prefkit.store.data_files as data_files
    import prefkit.store.files as files
    import prefkit.store.lance_facts as lance_facts

    calls: Counter[str] = Counter()

    def wrap(owner: object, name: str, point: str) -> None:
        real: Callable[..., object] = getattr(owner, name)

        def counted(*args: object, **options: object) -> object:
            calls[point] += 1
            here = kill is not None and kill.point == point and kill.call == calls[point]
            if here and kill.before:
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*args, **options)
            if here:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(
            owner, name, staticmethod(counted) if isinstance(owner, type) and point in ("commit", "merge") else counted
        )

    wrap(files, "_fsync", "fsync")
    wrap(lance_facts, "write_fragments", "fragments")
    wrap(lance.LanceDataset, "commit", "commit")
    wrap(Compaction, "commit", "merge")
    wrap(Path, "rename", "rename")
    wrap(Path, "replace", "replace")
    wrap(data_files, "append_durably", "append_durably")
    return calls


@dataclass
class Logged:
    """A sampler or scorer that notes what it answered, before the answers are stored."""

    worker: object
    log: Path
    key: Callable[[object], str]

    def __getattr__(self, name: str) -> object:
        return getattr(self.worker, name)

    def sample(self, requests: Sequence[object]) -> Iterator[Sequence[object]]:
        """See Sampler."""
        return self._noted(self.worker.sample(requests))  # type: ignore[attr-defined]

    def score(self, requests: Sequence[object]) -> Iterator[Sequence[object]]:
        """See Scorer."""
        return self._noted(self.worker.score(requests))  # type: ignore[attr-defined]

    def _noted(self, batches: Iterator[Sequence[object]]) -> Iterator[Sequence[object]]:
        for batch in batches:
            _note(self.log, [self.key(result) for result in batch])
            yield batch


def _log_requests(pipeline: ModuleType, folder: Path) -> None:
    open_sampler, open_scorer = pipeline.open_sampler, pipeline.open_scorer
    pipeline.open_sampler = lambda *args: Logged(open_sampler(*args), folder / "drawn", lambda r: r.completion_id.hex())
    name = lambda r: f"{r.completion_id.hex()} {r.aspect} {r.repeat}"  # noqa: E731
    pipeline.open_scorer = lambda *args: Logged(open_scorer(*args), folder / "labelled", name)


def _note(path: Path, lines: Sequence[str]) -> None:
    with path.open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))


def prepared(folder: Path) -> Path:
    """A workspace with the prompts, ready to be built."""
    from prefkit.store.workspace import Workspace

    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"prompt": f"What is {i} + {i * 7 % 13}?", "answer": i + i * 7 % 13}) for i in range(PROMPTS)]
    (folder / "problems.jsonl").write_text("\n".join(lines))
    Workspace.create(folder)
    return folder


def run_child(folder: Path, kill: Kill | None) -> bool:
    """Runs a build to its end or its death; True when it finished."""
    command = [sys.executable, __file__, "--child", str(folder)]
    command += ["--kill", json.dumps(asdict(kill))] if kill else []
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if kill and kill.point == "time":
        time.sleep(kill.call / 1000)
        process.kill()
    _, errors = process.communicate()
    if process.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the build failed instead of dying or finishing:\n{errors.decode()[-3000:]}")
    return process.returncode == 0


def trial(folder: Path, kills: Sequence[Kill], reference: Path) -> Trial:
    """Builds in a new folder under the given kills, one run each, then to the end, and compares."""
    prepared(folder)
    died = 0
    asked_again = 0
    for kill in [*kills, None]:
        before = _acknowledged_keys(folder)
        marks = {log: _length(folder / log) for log in ("drawn", "labelled")}
        died += not run_child(folder, kill)
        asked_again += sum(len(before[log] & set(_lines(folder / log)[marks[log] :])) for log in marks)
    return Trial(
        list(kills), died, _content(folder) == _content(reference), _lost(folder), asked_again, _doubled(folder)
    )


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _length(path: Path) -> int:
    return len(_lines(path))


def _acknowledged_keys(folder: Path) -> dict[str, set[str]]:
    """What was acknowledged so far, in the form in which requests are logged."""
    from prefkit.records import COMPLETIONS, SCORES
    from prefkit.store.workspace import Workspace

    acknowledged = {(table, i) for table, i, _ in (line.split() for line in _lines(folder / "acknowledged"))}
    facts = Workspace.open(folder).facts
    draws = facts.read(COMPLETIONS, ["id"])["id"].to_list()
    labels = facts.read(SCORES, ["id", "completion_id", "aspect", "repeat"]).rows()
    return {
        "drawn": {i.hex() for i in draws if ("completions", i.hex()) in acknowledged},
        "labelled": {f"{c.hex()} {a} {r}" for i, c, a, r in labels if ("scores", i.hex()) in acknowledged},
    }


def _content(folder: Path) -> tuple[str, dict[str, bytes]]:
    from prefkit.store.workspace import Workspace

    (version,) = Workspace.open(folder).versions.all("crash")
    return str(version.manifest["content_hash"]), {p.name: p.read_bytes() for p in version.folder.glob("*.arrow")}


def _lost(folder: Path) -> int:
    from prefkit.records import FACT_TABLES
    from prefkit.store.workspace import Workspace

    facts = Workspace.open(folder).facts
    held = {
        (name, i.hex(), b.hex())
        for name, table in FACT_TABLES.items()
        for i, b in facts.read(table, ["id", "batch_id"]).rows()
    }
    return len({tuple(line.split()) for line in _lines(folder / "acknowledged")} - held)


def _doubled(folder: Path) -> int:
    from prefkit.records import COMPLETIONS, SCORES
    from prefkit.store.workspace import Workspace

    facts = Workspace.open(folder).facts
    return sum(
        len(ids) - len(set(ids)) for ids in (facts.read(t, ["id"])["id"].to_list() for t in (COMPLETIONS, SCORES))
    )


def random_kill(source: random.Random, calls: Counter[str], milliseconds: int) -> Kill:
    """A kill at a uniformly chosen point and call, or at a random time."""
    point = source.choice([*(p for p in POINTS if calls[p]), "time"])
    return Kill(point, source.randint(1, milliseconds if point == "time" else calls[point]), source.random() < 0.5)


def main() -> None:
    """Runs the trials and writes their JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", type=Path)
    parser.add_argument("--kill", type=lambda text: Kill(**json.loads(text)))
    options = parser.parse_args()
    if options.child:
        child(options.child, options.kill)
        return
    with tempfile.TemporaryDirectory() as scratch:
        report = _trials(Path(scratch), options.kills, random.Random(options.seed))
    print(json.dumps({k: v for k, v in report.items() if k != "trials"}, indent=1))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(report["failed"] != 0)


def _trials(scratch: Path, kills: int, source: random.Random) -> dict[str, object]:
    reference = prepared(scratch / "reference")
    started = time.perf_counter()
    run_child(reference, None)
    milliseconds = int(1000 * (time.perf_counter() - started))
    calls = Counter(json.loads((reference / "calls.json").read_text()))
    trials: list[Trial] = []
    while sum(t.died for t in trials) < kills:
        many = [random_kill(source, calls, milliseconds) for _ in range(source.choice([1, 1, 2, 3]))]
        trials.append(trial(scratch / f"trial-{len(trials)}", many, reference))
        print(f"trial {len(trials)}: {'ok' if trials[-1].passed else 'FAILED'} {trials[-1]}", file=sys.stderr)
    return {
        "kills": sum(t.died for t in trials),
        "trials_run": len(trials),
        "failed": sum(not t.passed for t in trials),
        "kills_by_point": dict(Counter(k.point for t in trials for k in t.kills)),
        "calls_in_one_build": dict(calls),
        "trials": [asdict(t) for t in trials],
    }


if __name__ == "__main__":
    main()
