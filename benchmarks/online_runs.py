"""One run of the s sweep: a recipe, trained by prefkit, and its final policy evaluated on what the recipe holds out."""

import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from online_measured import HERE, Measured, held_out_problems, measured
from online_policy import expected_accuracy, make_policy, write_problems

import prefkit_trainers.running as running
from prefkit.errors import PrefkitError
from prefkit.pipeline.build import build
from prefkit.pipeline.recipe import Recipe
from prefkit.pipeline.training.running import Ended, RunStart
from prefkit.store.workspace import Workspace

Period: TypeAlias = Literal["1", "10", "100", "inf", "null"]
Reference: TypeAlias = Literal["fixed", "behavior", "reset"]
HELD_OUT = 0.06
SAMPLES = 4
PROMPTS = 36
PAIRS_PER_PROMPT = 1
PAIRS = 16
WARM_UP = 20
RESET_PERIOD = 50
EVALUATED = 4
SETTINGS = {
    "held_out": HELD_OUT, "samples": SAMPLES, "prompts": PROMPTS, "pairs_per_prompt": PAIRS_PER_PROMPT,
    "pairs_per_step": PAIRS, "warm_up": WARM_UP,
    "reference_reset_period": RESET_PERIOD, "completions_per_held_out_prompt": EVALUATED,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Job:
    """A run to be made."""

    part: Literal["grid", "sweep", "random", "zero", "higher"]
    """The grid of learning rates and betas, the sweep, a control (random rewards, or a learning rate of 0), or the
    sweep at a higher learning rate."""
    period: Period
    reference: Reference
    learning_rate: float
    beta: float
    seed: int
    steps: int

    @property
    def key(self) -> str:
        """Unique."""
        tried = f"/{self.learning_rate:g}/beta={self.beta:g}" if self.part == "grid" else ""
        return f"{self.part}/s={self.period}/{self.reference}{tried}/seed={self.seed}"

    def recipe(self, problems: Path, policy: Path) -> Recipe:
        """What prefkit trains by."""
        chance = {"kind": "python", "path": "online_chance:score", "aspect": "chance"}
        sampler = {"backend": "transformers", "n": SAMPLES, "max_new_tokens": 6, "batch_size": 1024, "device": "cpu"}
        return Recipe.model_validate(
            {
                "name": "chance" if self.part == "random" else "sums",
                "prompts": {"path": str(problems)},
                "policy": {"model": str(policy)},
                "sample": sampler,
                "score": [chance if self.part == "random" else {"kind": "verifier", "name": "exact"}],
                "select": {"kind": "correct_vs_incorrect", "per_prompt": PAIRS_PER_PROMPT},
                # Whatever the policy writes counts: a wrong answer may be cut, empty or drawn twice.
                "hygiene": {
                    "empty": False, "duplicates": "off", "mojibake": False, "leaked_tokens": False, "truncated": False,
                },
                "split": {"test": HELD_OUT},
                "train": self._train(),
            }
        )  # fmt: skip

    def _train(self) -> dict[str, object]:
        return {
            "method": "dpo",
            "sync_period": None if self.period == "null" else float(self.period),
            "reference": self.reference,
            "reference_reset_period": RESET_PERIOD if self.reference == "reset" else None,
            "prompts": PROMPTS,
            "seed": self.seed,
            "args": {
                "max_steps": self.steps,
                "learning_rate": self.learning_rate,
                "lr_scheduler_type": "constant_with_warmup",
                "warmup_steps": WARM_UP,
                "per_device_train_batch_size": PAIRS,
                "beta": self.beta,
                "gradient_checkpointing": False,
                "save_strategy": "no",
            },
        }


@dataclass(frozen=True, slots=True)
class Result(Measured):
    """How a run ended."""

    expected_start: float
    """Exact shares of right answers, at T = 1: the mean probability of the right one."""
    expected: float

    part: str
    period: str
    reference: str
    learning_rate: float
    beta: float
    seed: int
    entropy: float
    """Of the trained policy per token of the last pairs, in nats."""
    weights: str
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Refused:
    """A run without a result, and what prefkit says of it."""

    part: str
    period: str
    reference: str
    seed: int
    refused: str


@dataclass(frozen=True, slots=True)
class Laboratory:
    """A folder with the problems, and for each seed a policy and a workspace."""

    work: Path

    def done(self, job: Job) -> dict[str, object]:
        """Makes a run and evaluates it. Its recording and weights are thrown away."""
        began = time.process_time()
        place = self.place(job.seed)
        recipe = job.recipe(self.problems(), place / "policy")
        workspace = Workspace.open(place)
        exact = replace(job, part="sweep").recipe(self.problems(), place / "policy")
        try:
            ended = _trained(recipe, workspace)
            result = _evaluated(job, exact, ended, workspace, began)
        except PrefkitError as error:
            return asdict(Refused(job.part, job.period, job.reference, job.seed, str(error)))
        shutil.rmtree(ended.folder)
        return asdict(result)

    def problems(self) -> Path:
        """What prefkit reads."""
        path = self.work / "problems.jsonl"
        if not path.exists():
            write_problems(path)
        return path

    def place(self, seed: int) -> Path:
        """The seed's folder, with its policy and a workspace. It may have been given with the policy alone."""
        place = self.work / f"seed-{seed}"
        if not place.exists():
            draft = self.work / f".seed-{seed}"
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            told = make_policy(seed, draft / "policy")
            print(f"policy {seed}: {told}", flush=True)
            draft.rename(place)
        if not (place / ".prefkit" / "workspace.json").exists():
            Workspace.create(place)
        return place


def _trained(recipe: Recipe, workspace: Workspace) -> Ended:
    assert recipe.train is not None
    if recipe.train.sync_period is None:
        build(recipe, workspace, HERE)
    return running.train(RunStart(recipe, HERE), workspace, silent)


def silent(line: str) -> None:
    """Tells nothing."""


def _evaluated(job: Job, exact: Recipe, ended: Ended, workspace: Workspace, began: float) -> Result:
    """By the right answers, whatever the run was rewarded for."""
    assert exact.policy is not None
    problems = held_out_problems(exact, workspace)
    return Result(
        expected_start=expected_accuracy(Path(exact.policy.model), problems),
        expected=expected_accuracy(ended.folder / "model", problems),
        **asdict(measured(exact, ended.name, workspace, EVALUATED)),
        part=job.part,
        period=job.period,
        reference=job.reference,
        learning_rate=job.learning_rate,
        beta=job.beta,
        seed=job.seed,
        entropy=ended.outcome.metrics["entropy"],
        weights=ended.outcome.weights,
        cpu_seconds=round(time.process_time() - began, 1),
    )
