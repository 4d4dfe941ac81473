"""What a training costs: DPO over a version beside TRL's own ways, and a live run beside its bare work.

    python benchmarks/training.py --json benchmarks/results/training.json

**Offline.** The same random policy is trained on the same pairs in the same order, by

    trl                    TRL's DPOTrainer with the reference model in memory
    trl_precompute         TRL's precompute_ref_log_probs, its first run: the pass over all pairs included
    trl_precompute_again   the same once more, in a new process: its cache is there
    prefkit                `prefkit train` over a version that holds the reference's sums
    prefkit_computing      the same over a version that does not: the sums are computed before training

Prompts have a log-normal length (median 150 tokens), chosen and rejected 20 to 400 tokens (median 180). `before` is
all that comes before the first step: models are loaded, texts tokenised, reference sums computed or read. `step` is an
optimizer step. Losses must agree. With and without activation checkpointing, which is TRL's default.

**Live.** See `training_stream.py`.

Each cell runs in a process of its own, one thread, float32; the engines take turns, `--repeats` times, and figures are
medians of CPU time, which other work on the machine disturbs least. Peak memory is that above what the imports take.
"""

import argparse
import gc
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, TypeVar

from logprobs import MB, peak_bytes, reset_peak
from training_models import Shape, completion_text, prompt_text, save_policy
from training_stream import Job as LiveJob
from training_stream import live_comparison

if TYPE_CHECKING:
    from prefkit.pipeline.recipe import Recipe

T = TypeVar("T")

LARGEST_DIFFERENCE = 1e-3
"""Of two losses of the same step, whose reference sums two engines have computed."""
NAME, BARE = "pairs", "bare-pairs"
"""Versions with and without sums."""
SAMPLES = 24
"""Of the reference's own per prompt, of one token each: a check needs a hundred as its yardstick."""


@dataclass(frozen=True)
class Job:
    """What is trained on; `folder` holds the policy, a workspace with the version, and the rows in training order."""

    folder: Path
    pairs: int
    batch: int
    checkpointing: bool


@dataclass(frozen=True)
class Result:
    """One training."""

    before_cpu: float
    step_cpu: float
    step_clock: float
    peak_mb: float
    other_models_mb: float
    """Parameters of models beside the policy, while it is trained."""
    losses: tuple[float, ...]


# -------------------------------------------------------------------------------------------------------- the same rows


def prepare(shape: Shape, folder: Path, pairs: int) -> None:
    """Makes a policy, a version over made-up pairs with the policy's sums, and the rows in the order of training."""
    from prefkit.pipeline.build import build
    from prefkit.pipeline.imports.importing import import_tables
    from prefkit.sources.config import ImportConfig
    from prefkit.store.workspace import Workspace
    from prefkit.stream.order import prompt_places

    save_policy(shape, folder / "policy")
    random = Random(0)
    with (folder / "pairs.jsonl").open("w") as file:
        for _ in range(pairs):
            texts = {side: completion_text(random, shape.vocabulary) for side in ("chosen", "rejected")}
            row = {side: [{"role": "assistant", "content": text}] for side, text in texts.items()}
            prompt = [{"role": "user", "content": prompt_text(random, shape.vocabulary)}]
            file.write(json.dumps({"prompt": prompt, **row}) + "\n")
    workspace = Workspace.create(folder)
    table = {"path": str(folder / "pairs.jsonl"), "adapter": "trl"}
    import_tables(workspace.facts, ImportConfig.model_validate({"name": NAME, "tables": [table]}))
    build(recipe({}, stored=False), workspace, folder)
    version = build(recipe({}), workspace, folder).version
    rows = version.frame("train").collect()
    places, _ = prompt_places(rows.height, 0, 0, rows.height)
    with (folder / "rows.jsonl").open("w") as file:
        for row in rows[places].select("prompt", "chosen", "rejected").iter_rows(named=True):
            file.write(json.dumps(row) + "\n")


def recipe(args: dict[str, object], stored: bool = True) -> "Recipe":
    """The recipe of the version with the reference's sums, or of that without, and of a training on it."""
    from prefkit.pipeline.recipe import Recipe

    check = {"reference": "policy", "store_ref_logps": True, "samples": SAMPLES, "max_new_tokens": 1}
    given: dict[str, object] = {
        "name": NAME if stored else BARE,
        "prompts": {"imported": NAME},
        "policy": {"model": "policy"},
        "score": [{"kind": "imported", "scorer": "*", "name": "given"}],
        "select": {"kind": "comparisons"},
        "check": check if stored else None,
        "train": {"method": "dpo", "args": args},
    }
    return Recipe.model_validate(given)


def arguments(job: Job) -> dict[str, object]:
    """What all trainings are told."""
    return {
        "per_device_train_batch_size": job.batch, "num_train_epochs": 1, "learning_rate": 1e-3, "logging_steps": 1,
        "save_strategy": "no", "activation_checkpointing": job.checkpointing,
    }  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- the engines


def trl(job: Job, repeat: int) -> list[float]:
    """With the reference in memory."""
    return _trl(job, precompute=False, cache=job.folder / f"plain-{repeat}-{job.checkpointing}")


def trl_precompute(job: Job, repeat: int) -> list[float]:
    """Its own sums first; of two trainings with one cache the second finds them there."""
    return _trl(job, precompute=True, cache=job.folder / f"cache-{repeat}-{job.checkpointing}")


def _trl(job: Job, precompute: bool, cache: Path) -> list[float]:
    import datasets
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
    from trl import DPOConfig, DPOTrainer

    class InOrder(DPOTrainer):
        def _get_train_sampler(self, dataset: object = None) -> torch.utils.data.Sampler[int]:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    policy = job.folder / "policy"
    rows = datasets.load_dataset("json", data_files=str(job.folder / "rows.jsonl"), cache_dir=str(cache), split="train")
    config = DPOConfig(
        output_dir=str(cache / "output"), use_cpu=True, bf16=False, report_to="none", disable_tqdm=True,
        precompute_ref_log_probs=precompute, **arguments(job),
    )  # fmt: skip
    trainer = InOrder(
        model=AutoModelForCausalLM.from_pretrained(policy, dtype="float32"),
        args=config,
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(policy),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return [logged["loss"] for logged in trainer.state.log_history if "loss" in logged]


def prefkit(job: Job, _: int, stored: bool = True) -> list[float]:
    """Over the version."""
    from prefkit.pipeline.training.running import RunStart
    from prefkit.store.workspace import Workspace
    from prefkit_trainers import running
    from prefkit_trainers.metrics import read_metrics

    start = RunStart(recipe(arguments(job), stored), job.folder)
    done = running.train(start, Workspace.open(job.folder), lambda _: None)
    return [loss for logged in read_metrics(done.folder / "metrics.jsonl") if (loss := logged.get("loss")) is not None]


def prefkit_computing(job: Job, repeat: int) -> list[float]:
    """Sums first."""
    return prefkit(job, repeat, stored=False)


Engine = Callable[[Job, int], list[float]]
ENGINES: dict[str, Engine] = {
    "trl": trl,
    "trl_precompute": trl_precompute,
    "trl_precompute_again": trl_precompute,
    "prefkit": prefkit,
    "prefkit_computing": prefkit_computing,
}


# -------------------------------------------------------------------------------------------------------- the measuring


def cell(job: Job, engine: str, repeat: int) -> Result:
    """One training. Runs in a process of its own."""
    quiet()
    from transformers import Trainer

    from prefkit_trainers import running  # noqa: F401 - so that no engine is charged for imports

    marks: list[tuple[float, float]] = []
    others: list[float] = []
    stock = Trainer.train

    def timed(self: Trainer, *args: object, **kwargs: object) -> object:
        others.append(_parameters_mb(besides=self.model))
        marks.append((time.process_time(), time.perf_counter()))
        done = stock(self, *args, **kwargs)
        marks.append((time.process_time(), time.perf_counter()))
        return done

    Trainer.train = timed  # type: ignore[method-assign]
    before, start = reset_peak("cpu"), time.process_time()
    losses = ENGINES[engine](job, repeat)
    peak = (peak_bytes("cpu") - before) / MB
    (cpu, clock), (cpu_end, clock_end) = marks
    steps = len(losses)
    return Result(cpu - start, (cpu_end - cpu) / steps, (clock_end - clock) / steps, peak, others[0], tuple(losses))


def _parameters_mb(besides: object) -> float:
    from transformers import PreTrainedModel

    gc.collect()
    models = [thing for thing in gc.get_objects() if issubclass(type(thing), PreTrainedModel)]
    whole = [model for model in models if hasattr(model, "lm_head") and model is not besides]
    return sum(p.numel() * p.element_size() for model in whole for p in model.parameters()) / MB


def quiet() -> None:
    """One thread, and nothing is printed that is no figure."""
    import datasets
    import torch
    from transformers.utils import logging

    os.environ |= {"TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1"}
    warnings.filterwarnings("ignore", category=FutureWarning)
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    logging.disable_progress_bar()


def in_a_process(work: Callable[..., T], *given: object) -> T:
    """Its answer, from a process where nothing ran before."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *given).result()


def compared(job: Job, repeats: int) -> dict[str, object]:
    """Medians of every engine and ratios to the first."""
    results: dict[str, list[Result]] = {name: [] for name in ENGINES}
    for repeat in range(repeats):
        for name, found in results.items():
            found.append(in_a_process(cell, job, name, repeat))
            print(f"  {name:22}{found[-1].before_cpu:7.1f} s before, {found[-1].step_cpu:6.2f} s a step", flush=True)
    first = results["trl"]
    apart = max(abs(a - b) for n in ENGINES for a, b in zip(first[0].losses, results[n][0].losses, strict=True))
    if apart > LARGEST_DIFFERENCE:
        raise SystemExit(f"the engines' losses are {apart} apart, expected at most {LARGEST_DIFFERENCE}")
    plain_step, plain_peak = _median(r.step_cpu for r in first), _median(r.peak_mb for r in first)
    return {
        "pairs": job.pairs,
        "batch": job.batch,
        "steps": len(first[0].losses),
        "activation_checkpointing": job.checkpointing,
        "largest_difference_of_a_loss": apart,
        "engines": {
            name: {
                "before_cpu_seconds": [round(r.before_cpu, 2) for r in found],
                "step_cpu_seconds": [round(r.step_cpu, 3) for r in found],
                "step_clock_seconds": [round(r.step_clock, 3) for r in found],
                "step": round(_median(r.step_cpu for r in found) / plain_step, 3),
                "epoch": round(_epoch(found) / _epoch(first), 3),
                "peak_mb": round(_median(r.peak_mb for r in found)),
                "memory": round(_median(r.peak_mb for r in found) / plain_peak, 3),
                "other_models_mb": round(_median(r.other_models_mb for r in found), 1),
            }
            for name, found in results.items()
        },
    }


def _epoch(found: Sequence[Result]) -> float:
    return _median(r.before_cpu + r.step_cpu * len(r.losses) for r in found)


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


def main() -> None:
    """Prints times as they come, and writes what each comparison gives as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--params", default="6x384x8192", help="layers x hidden x vocabulary")
    parser.add_argument(
        "--live", nargs="*", default=["2x128x2048/4", "2x128x2048/32", "6x384x8192/4"], help="the same / prompts a step"
    )
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4, help="of a live run")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    shape = Shape.of(options.params)
    machine = {"cores": os.cpu_count(), "python": platform.python_version()}
    comparisons: list[dict[str, object]] = []
    runs: list[dict[str, object]] = []
    told = {
        "machine": machine,
        "params": str(shape),
        "parameters": shape.parameters,
        "offline": comparisons,
        "live": runs,
    }

    def note() -> None:
        if options.json:
            options.json.write_text(json.dumps(told, indent=1) + "\n")

    with tempfile.TemporaryDirectory() as scratch:
        quiet()
        folder = Path(scratch) / "offline"
        folder.mkdir()
        in_a_process(prepare, shape, folder, options.pairs)
        for checkpointing in (False, True):
            print(f"{shape}, activation checkpointing {checkpointing}", flush=True)
            job = Job(folder, options.pairs, options.batch, checkpointing)
            comparisons.append(compared(job, options.repeats))
            note()
        for number, asked in enumerate(options.live):
            live = LiveJob.of(asked, options.steps)
            runs.append(live_comparison(live, Path(scratch) / f"live-{number}", options.repeats))
            note()


if __name__ == "__main__":
    main()
