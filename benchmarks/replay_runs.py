"""An online run of a seed, and its rows replayed in other orders; each final policy is evaluated."""

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch
from online_measured import HERE, held_out_problems, measured
from online_policy import expected_accuracy
from online_results import Run
from online_runs import EVALUATED, SETTINGS, Job, Laboratory, Reference, silent
from safetensors.torch import load_file

import prefkit_trainers.running as running
from prefkit.pipeline.training.running import Ended, RunStart
from prefkit.store.runs import Runs
from prefkit.store.workspace import Workspace
from prefkit.stream.replayed import Shuffle

ONLINE, RECORDED, OFFLINE = "online", "recorded", "offline"
WINDOWS: Mapping[str, int | None] = {"1": 1, "4": 4, "64": 64, "all": None}
"""Optimizer steps whose rows are shuffled together, by name."""
REPLAYS = (RECORDED, *WINDOWS)
ORDERS = (ONLINE, *REPLAYS, OFFLINE)
NAME = "replayed"


def key(order: str, seed: int) -> str:
    """Unique."""
    return f"{order}/seed={seed}"


@dataclass(frozen=True, slots=True)
class Setting:
    """What a seed's runs have in common."""

    reference: Reference
    learning_rate: float
    beta: float
    steps: int
    seed: int

    @property
    def online(self) -> Job:
        """Syncs after every step."""
        return Job("sweep", "1", self.reference, self.learning_rate, self.beta, self.seed, self.steps)

    @property
    def offline(self) -> Job:
        """On a version that the start drew, which has no other reference than the start."""
        reference = "fixed" if self.reference == "reset" else self.reference
        return Job("sweep", "null", reference, self.learning_rate, self.beta, self.seed, self.steps)


class Seed:
    """The runs of a seed. The online one stays in the workspace until `forget`: begun before, it is gone on with."""

    def __init__(self, setting: Setting, laboratory: Laboratory) -> None:
        self._seed = setting.seed
        self._policy = laboratory.place(setting.seed) / "policy"
        self._workspace = Workspace.open(laboratory.place(setting.seed))
        self._recipe = setting.online.recipe(laboratory.problems(), self._policy)

    def online(self) -> dict[str, object]:
        """The run itself."""
        began = time.process_time()
        return self._result(ONLINE, self._run(), began)

    def replayed(self, order: str) -> dict[str, object]:
        """Its rows in one of the orders of REPLAYS, other ones in every seed."""
        run, began = self._run(), time.process_time()
        folder = run.folder / "replay"
        shutil.rmtree(folder, ignore_errors=True)
        shuffle = None if order == RECORDED else Shuffle(WINDOWS[order], self._seed)
        ended = running.replay(NAME, self._workspace, shuffle, folder, silent)
        apart = {"same_weights": ended.outcome.weights == run.outcome.weights, "apart": self._apart(run, ended)}
        result = self._result(order, ended, began) | apart
        shutil.rmtree(folder)
        return result

    def forget(self) -> None:
        """Removes the online run."""
        shutil.rmtree(self._run().folder)

    def _run(self) -> Ended:
        begun = {run.name: run for run in Runs(self._workspace.root).all()}
        if NAME not in begun:
            return running.train(RunStart(self._recipe, HERE, name=NAME), self._workspace, silent)
        outcome = begun[NAME].outcome
        if outcome is None:
            return running.resume(NAME, self._workspace, silent)
        return Ended(NAME, begun[NAME].folder, outcome, 0)

    def _result(self, order: str, ended: Ended, began: float) -> dict[str, object]:
        model = ended.folder / "model"
        found = measured(self._recipe, str(model), self._workspace, EVALUATED)
        return {
            "order": order,
            "seed": self._seed,
            **asdict(found),
            "expected": expected_accuracy(model, held_out_problems(self._recipe, self._workspace)),
            "weights": ended.outcome.weights,
            "cpu_seconds": round(time.process_time() - began, 1),
        }

    def _apart(self, run: Ended, replay: Ended) -> float:
        """How far the replay's weights end from the run's, as a share of how far the run has come from the start."""
        start, end, other = (
            _vector(folder) for folder in (self._policy, run.folder / "model", replay.folder / "model")
        )
        return (torch.linalg.vector_norm(other - end) / torch.linalg.vector_norm(end - start)).item()


def offline(setting: Setting, laboratory: Laboratory, sweep: Path | None) -> dict[str, object]:
    """The offline run: that of the sweep's JSON where it is there with this very setting, else made here."""
    found = _of_sweep(setting, sweep) if sweep is not None and sweep.exists() else None
    made = laboratory.done(setting.offline) if found is None else found
    if "refused" in made:
        raise SystemExit(str(made["refused"]))
    return {**made, "order": OFFLINE, "of_sweep": found is not None}


def _of_sweep(setting: Setting, sweep: Path) -> Run | None:
    told = json.loads(sweep.read_text())
    wanted = {**SETTINGS, "steps": setting.steps}
    run = cast("Run | None", told["runs"].get(setting.offline.key))
    alike = wanted.items() <= told["settings"].items()
    if run is None or not alike or (run["learning_rate"], run["beta"]) != (setting.learning_rate, setting.beta):
        return None
    return run


def _vector(model: Path) -> torch.Tensor:
    weights = load_file(model / "model.safetensors")
    return torch.cat([weights[name].flatten().double() for name in sorted(weights)])
