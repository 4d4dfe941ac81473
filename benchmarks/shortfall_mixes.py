"""Mixes of two policies' completions, and the runs on them: what prefkit is asked, and what comes out."""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from online_policy import TARGET, Written, make_policy, plain, problems, write_problems
from online_runs import HERE, SETTINGS, silent
from shortfall_examined import MOST_TOKENS, Examiner, Point, padded, signed

import prefkit_trainers.running as running
from prefkit.pipeline.build import build
from prefkit.pipeline.recipe import Recipe
from prefkit.pipeline.training.running import RunStart
from prefkit.store.workspace import Workspace

STEPS, EXAMINED_EVERY = 150, 15
PAIRS, PROMPTS, SAMPLES = (SETTINGS[name] for name in ("pairs_per_step", "prompts", "samples"))
LEARNING_RATE, BETA = 1e-4, 1.0
EARLY, LATE = 0.25, 0.7
ONLINE = "online"


@dataclass(frozen=True, slots=True)
class Behavior:
    """A policy that completions come from: one of its own seed, or the start at another stage or temperature."""

    seed: int | None = None
    target: float = TARGET
    written: Written = plain
    temperature: float = 1.0


BEHAVIORS: Mapping[str, Behavior] = {
    "hot": Behavior(temperature=1.5),
    "cold": Behavior(temperature=0.5),
    "padded": Behavior(seed=50, written=padded),
    "signed": Behavior(seed=51, written=signed),
    "weak": Behavior(seed=52, target=EARLY),
    "earlier": Behavior(target=EARLY),
    "peer": Behavior(seed=53),
    "strong": Behavior(seed=54, target=LATE),
}
"""By name. Two neighbours are of a kind."""


@dataclass(frozen=True, slots=True)
class Job:
    """A training: offline on a mix, or online where `behavior` is ONLINE."""

    behavior: str
    own: float
    """Share of the prompts that the start policy itself has answered, at T = 1; the rest is the behaviour policy's."""
    seed: int

    @property
    def mix(self) -> str:
        """Its name, the same for every seed."""
        return f"{self.behavior}-{round(100 * self.own)}"

    @property
    def key(self) -> str:
        """Unique."""
        return f"{self.mix}/seed={self.seed}"


@dataclass(frozen=True, slots=True)
class Field:
    """A folder with problems, policies, and one workspace for all: what was drawn or scored once is not again."""

    work: Path

    def done(self, job: Job) -> dict[str, object]:
        """Makes the mix's version with its check, trains on it, and examines every checkpoint."""
        self.work.mkdir(parents=True, exist_ok=True)
        workspace = self._workspace()
        recipe = self._recipe(job)
        pairs, shift = None, None
        if job.behavior != ONLINE:
            version = build(recipe, workspace, HERE).version
            pairs, shift = version.frame("train").collect().height, _values(version.content["shift"])
        ended = running.train(RunStart(recipe, HERE), workspace, silent)
        path = self._path(ended.folder, self._start(job.seed))
        shutil.rmtree(ended.folder)
        return {**asdict(job), "pairs": pairs, "shift": shift, "path": [asdict(point) for point in path]}

    def _path(self, run: Path, start: Path) -> list[Point]:
        examiner = Examiner(start, problems().validation)
        steps = range(EXAMINED_EVERY, STEPS + 1, EXAMINED_EVERY)
        return [examiner.point(start, 0), *(examiner.point(run / f"checkpoint-{step}", step) for step in steps)]

    def _recipe(self, job: Job) -> Recipe:
        start = self._start(job.seed)
        blocks = [_block(None, 1.0, (0.0, 1.0))]
        if job.behavior != ONLINE and job.own < 1:
            behavior = BEHAVIORS[job.behavior]
            other = _block(self._policy(job.seed, behavior), behavior.temperature, (job.own, 1.0))
            blocks = [_block(None, 1.0, (0.0, job.own)), other] if job.own else [other]
        check = {
            "reference": "policy", "store_ref_logps": True, "samples": SAMPLES, "max_new_tokens": MOST_TOKENS,
            "device": "cpu",
        }  # fmt: skip
        return Recipe.model_validate(
            {
                "name": f"{job.mix}-of-{job.seed}",
                "prompts": {"path": str(self._problems())},
                "policy": {"model": str(start)},
                "sample": blocks,
                "score": [{"kind": "python", "path": "shortfall_judge:score", "aspect": "right"}],
                "select": {"kind": "correct_vs_incorrect", "per_prompt": 1},
                # Whatever a policy writes counts: a wrong answer may be cut, empty or drawn twice.
                "hygiene": {
                    "empty": False, "duplicates": "off", "mojibake": False, "leaked_tokens": False, "truncated": False,
                },
                "check": None if job.behavior == ONLINE else check,
                "train": _training(1.0 if job.behavior == ONLINE else None),
            }
        )  # fmt: skip

    def _start(self, seed: int) -> Path:
        return self._policy(seed, Behavior())

    def _policy(self, seed: int, behavior: Behavior) -> Path:
        """The behaviour policy for a start of this seed, made at its first use."""
        seed = seed if behavior.seed is None else behavior.seed
        place = self.work / "policies" / f"{seed}-{behavior.target:g}"
        if not place.exists():
            draft = self.work / "draft"
            shutil.rmtree(draft, ignore_errors=True)
            told = make_policy(seed, draft, behavior.target, behavior.written)
            print(f"policy {place.name}: {told}", flush=True)
            place.parent.mkdir(exist_ok=True)
            draft.rename(place)
        return place

    def _problems(self) -> Path:
        path = self.work / "problems.jsonl"
        if not path.exists():
            write_problems(path)
        return path

    def _workspace(self) -> Workspace:
        made = (self.work / ".prefkit" / "workspace.json").exists()
        return Workspace.open(self.work) if made else Workspace.create(self.work)


def _block(policy: Path | None, temperature: float, share: tuple[float, float]) -> dict[str, object]:
    return {
        "backend": "transformers", "n": SAMPLES, "max_new_tokens": MOST_TOKENS, "batch_size": 1024, "device": "cpu",
        "policy": None if policy is None else {"model": str(policy)}, "temperature": temperature, "prompt_share": share,
    }  # fmt: skip


def _training(sync_period: float | None) -> dict[str, object]:
    return {
        "method": "dpo",
        "sync_period": sync_period,
        "reference": "fixed",
        "prompts": PROMPTS,
        "args": {
            "max_steps": STEPS,
            "learning_rate": LEARNING_RATE,
            "lr_scheduler_type": "constant_with_warmup",
            "warmup_steps": SETTINGS["warm_up"],
            "per_device_train_batch_size": PAIRS,
            "beta": BETA,
            "gradient_checkpointing": False,
            "save_steps": EXAMINED_EVERY,
        },
    }


def _values(report: object) -> object:
    """Of a check's overall numbers and coverage, the values without their intervals."""
    match report:
        case {"value": value, "se": _}:
            return value
        case {"overall": overall, "coverage": coverage}:
            return {"overall": _values(overall), "coverage": _values(coverage)}
        case dict():
            return {name: _values(value) for name, value in report.items()}
        case list():
            return [_values(value) for value in report]
        case _:
            return report


def path_of(run: Mapping[str, object]) -> list[Point]:
    """As it stands in the JSON."""
    return [Point(**point) for point in cast("list[dict[str, float]]", run["path"])]  # type: ignore[arg-type]
