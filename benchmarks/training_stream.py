"""What the stream machinery of a live run costs beside its bare work: sampling, scoring and training.

A policy trains live with `sync_period: 1` and `reference: behavior`. `raw` does the same work by hand in the same
trainer: it asks the sampler for the same draws, the scorer for their scores, hands over the rows as the run recorded
them, and copies the weights after every step. It selects, records, probes and digests nothing. Its draws must be the
run's, token for token.

`overhead` compares CPU times of the two; `stages` says where the run's own went: what calls each other is counted once,
for the innermost. `machinery` is the share of everything but sampling, scoring, copying weights and training.
"""

import multiprocessing
import os
import statistics
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain as joined
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from training_models import Shape, prompt_text, save_policy
from training_stages import MEASURED, WORK, Stages

if TYPE_CHECKING:
    from prefkit.pipeline.recipe import Recipe
    from prefkit.pipeline.training.streaming import RunRecipe
    from prefkit.sampling.weights import SyncedSampler, Weights
    from prefkit.scoring.protocol import Scorer

DRAWS = 4
TOKENS = 64
RUN = "live"


@dataclass(frozen=True)
class Job:
    """A live run: how many steps, each over the pairs of so many prompts, which are a micro-batch."""

    shape: Shape
    prompts: int
    steps: int

    @classmethod
    def of(cls, text: str, steps: int) -> "Job":
        """From `6x384x8192/4`: a shape and prompts."""
        shape, _, prompts = text.partition("/")
        return cls(Shape.of(shape), int(prompts), steps)


@dataclass(frozen=True)
class Trained:
    """One training loop."""

    cpu: float
    stages_cpu: Mapping[str, float]
    stages_clock: Mapping[str, float]


# ------------------------------------------------------------------------------------------------------------- the runs


def prepare(shape: Shape, folder: Path) -> None:
    """A policy, prompts and a workspace."""
    from prefkit.store.workspace import Workspace

    folder.mkdir()
    save_policy(shape, folder / "policy")
    random = Random(0)
    lines = [f'{{"prompt": "{prompt_text(random, shape.vocabulary)}"}}\n' for _ in range(256)]
    (folder / "prompts.jsonl").write_text("".join(lines))
    Workspace.create(folder)


def recipe(job: Job) -> "Recipe":
    """Online, a made-up scorer."""
    from prefkit.pipeline.recipe import Recipe

    args: dict[str, object] = {
        "per_device_train_batch_size": job.prompts, "max_steps": job.steps, "learning_rate": 1e-6, "logging_steps": 1,
        "save_strategy": "no", "activation_checkpointing": False,
    }  # fmt: skip
    given: dict[str, object] = {
        "name": "live",
        "prompts": {"path": "prompts.jsonl"},
        "policy": {"model": "policy"},
        "sample": {"backend": "transformers", "n": DRAWS, "max_new_tokens": TOKENS},
        "score": [{"kind": "fake"}],
        "select": {"kind": "best_vs_worst"},
        "hygiene": {"truncated": False},
        "train": {"method": "dpo", "sync_period": 1, "reference": "behavior", "prompts": job.prompts, "args": args},
    }
    return Recipe.model_validate(given)


def live(folder: Path, job: Job, name: str) -> Trained:
    """The run as `prefkit train` does it."""
    from prefkit.pipeline.training.running import RunStart
    from prefkit.store.workspace import Workspace
    from prefkit_trainers import running

    return _timed(
        lambda: running.train(RunStart(recipe(job), folder, name=name), Workspace.open(folder), lambda _: None)
    )


def raw(folder: Path, _: Job, name: str) -> Trained:
    """The same work by hand, on the rows of a run that has ended."""
    from prefkit.pipeline.training.running import policy_of
    from prefkit.pipeline.training.streaming import RunRecipe
    from prefkit.sampling.registry import open_synced
    from prefkit.scoring.registry import open_scorer
    from prefkit.store.runs import Runs
    from prefkit.store.workspace import Workspace
    from prefkit_trainers.models import open_policy
    from prefkit_trainers.training import train_dpo

    asked = RunRecipe.of(Runs(Workspace.open(folder).root).get(name))
    policy = policy_of(asked.recipe, folder)
    sampler = open_synced(asked.recipe.sample[0], policy, f"{asked.run.record.id}/0")
    stream = ByHand(sampler, open_scorer(asked.recipe.score[0], folder), asked)
    out = folder / f"{name}-by-hand"
    out.mkdir()
    return _timed(lambda: train_dpo(open_policy(policy), stream, asked.train, out, None, None))


class ByHand:
    """The least that gives a trainer the rows of a run by drawing them; implements `TrainingStream`."""

    def __init__(self, sampler: "SyncedSampler", scorer: "Scorer", asked: "RunRecipe") -> None:
        from prefkit.sampling.protocol import SampleRequest
        from prefkit.stream.events import NewRows
        from prefkit.stream.recording import chain

        self._sampler, self._scorer = sampler, scorer
        messages = {row["prompt_id"]: row["messages"] for row in asked.run.kept("prompts").to_pylist()}
        events = [frame.event for frame in chain(asked.run.folder / "recording")]
        self._batches = deque(
            (
                [(d, SampleRequest(d["id"], messages[d["prompt_id"]])) for d in batch.facts["completions"].to_pylist()],
                batch.rows.to_pylist(),
            )
            for batch in (event.batch for event in events if isinstance(event, NewRows))
        )

    def rows(self) -> Iterator[Mapping[str, object]]:
        """Draws, scores, and then the recorded rows."""
        from prefkit.scoring.protocol import ScoreRequest

        while self._batches:
            drawn, rows = self._batches.popleft()
            samples = list(joined.from_iterable(self._sampler.sample([request for _, request in drawn])))
            found = {sample.completion_id: sample for sample in samples}
            if any(list(found[draw["id"]].token_ids) != draw["token_ids"] for draw, _ in drawn):
                raise SystemExit("other tokens were drawn by hand than by the run, expected the same")
            requests = [ScoreRequest(d["id"], "fake", 0, r.prompt, found[d["id"]].text, {}) for d, r in drawn]
            for _ in self._scorer.score(requests):
                pass
            yield from rows

    def begin(self, step: int, weights: "Weights") -> None:
        """The sampler has the same weights."""

    def step_done(self, step: int, weights: "Weights") -> None:
        """Copies the weights."""
        self._copy(weights)

    def metrics(self) -> Mapping[str, float]:
        """Nothing is told."""
        return {}

    def _copy(self, weights: "Weights") -> None:
        import torch

        own = self._sampler._policy.model.state_dict()  # noqa: SLF001
        with torch.no_grad():
            for name, tensor in weights.tensors():
                own[name].copy_(tensor)

    def save(self, step: int, weights: "Weights") -> None:
        """Nothing is saved."""

    def saved(self, step: int) -> None:
        """Nothing is saved."""


# -------------------------------------------------------------------------------------------------------- the measuring


def _timed(work: Callable[[], object]) -> Trained:
    stages = Stages()
    places = MEASURED | {"training_stream:ByHand._copy": "copy weights"}
    for place, stage in places.items():
        stages.watch(place, stage)
    work()
    return Trained(sum(stages.cpu.values()), dict(stages.cpu), dict(stages.clock))


def _quietly(work: Callable[..., object], *given: object) -> object:
    import torch
    from transformers.utils import logging

    os.environ |= {"TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1"}
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)
    torch.set_num_threads(1)
    return work(*given)


def _in_a_process(work: Callable[..., object], *given: object) -> Any:  # noqa: ANN401 - what the work gives
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_quietly, work, *given).result()


def live_comparison(job: Job, folder: Path, repeats: int) -> dict[str, object]:
    """A live run and its bare work in turns: medians of CPU seconds a step."""
    _in_a_process(prepare, job.shape, folder)
    runs: list[Trained] = []
    bare: list[Trained] = []
    for repeat in range(repeats):
        runs.append(_in_a_process(live, folder, job, f"{RUN}-{repeat}"))
        bare.append(_in_a_process(raw, folder, job, f"{RUN}-{repeat}"))
        each = [found[-1].cpu / job.steps for found in (runs, bare)]
        print(f"  live {job.shape}, {job.prompts} prompts: {each[0]:.3f} s a step, by hand {each[1]:.3f} s", flush=True)
    steps = job.steps
    stages = {name: _median([r.stages_cpu.get(name, 0.0) for r in runs]) / steps for name in runs[0].stages_cpu}
    total = sum(stages.values())
    return {
        "params": str(job.shape),
        "parameters": job.shape.parameters,
        "steps": job.steps,
        "prompts_a_step": job.prompts,
        "draws_a_prompt": DRAWS,
        "tokens_a_draw": TOKENS,
        "live_cpu_seconds_a_step": [round(r.cpu / steps, 4) for r in runs],
        "raw_cpu_seconds_a_step": [round(r.cpu / steps, 4) for r in bare],
        "overhead": round(_median([r.cpu for r in runs]) / _median([r.cpu for r in bare]) - 1, 4),
        "machinery": round(sum(s for name, s in stages.items() if name not in WORK) / total, 4),
        "stages_cpu_seconds_a_step": _by_stage([r.stages_cpu for r in runs], steps),
        "stages_clock_seconds_a_step": _by_stage([r.stages_clock for r in runs], steps),
        "raw_stages_cpu_seconds_a_step": _by_stage([r.stages_cpu for r in bare], steps),
    }


def _by_stage(runs: Sequence[Mapping[str, float]], steps: int) -> dict[str, list[float]]:
    """Of every run, the dearest stage first."""
    names = sorted(runs[0], key=lambda name: -runs[0][name])
    return {name: [round(run.get(name, 0.0) / steps, 4) for run in runs] for name in names}


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)
