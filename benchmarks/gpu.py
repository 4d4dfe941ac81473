"""Throughput on one device, on a machine that needs no Lance: sampling, reference scoring, DPO steps, and live runs.

    python benchmarks/gpu.py --smoke
    python benchmarks/gpu.py --params 120M --device cuda --dtype bfloat16 --json benchmarks/results/gpu.json

A policy is made from nothing: it learns made-up stories, walks over words that end at random, so that its completions
have the lengths of theirs. It then samples (transformers, in this process), scores its pairs as a reference, is trained
on them, and trains live for every sync period of the sweep by `prefkit train`, a checkout of which is all that is
needed: the workspace has no fact tables.

`share_of_peak` is useful arithmetic over that of large matrix products, measured here: two operations per parameter and
token read or sampled, six per token trained on; embeddings are looked up, attention is left out. `peak_mb` is the most
memory in use, of the device, or of the process on a CPU. Every figure is given for each of `--repeats` rounds, in which
all stages take turns.
"""

import argparse
import gc
import json
import math
import os
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from statistics import median
from typing import TYPE_CHECKING, cast

from logprobs import MB, peak_bytes, reset_peak, wait_for

if TYPE_CHECKING:
    from training_models import Shape
    from training_stages import Stages

    from prefkit.pipeline.recipe import Recipe
    from prefkit.sampling.protocol import Message, Sample
    from prefkit.sampling.weights import Weights

SHAPES = {"tiny": "2x64x256", "1M": "2x128x2048", "16M": "6x384x8192", "120M": "12x768x24576"}
"""Layers x hidden size x vocabulary."""
WORDS = 128
"""So many different ones are in stories: few enough to be learnt in minutes."""
SURE = 0.8
"""How often a word is followed by its successor."""


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    params: str
    device: str
    dtype: str
    repeats: int = 3
    lessons: int = 400
    """Optimizer steps in which the policy learns stories."""
    lesson_batch: int = 64
    story: int = 160
    """Words of a story on average."""
    prompts: int = 64
    """Sampled together, and of a micro-batch."""
    draws: int = 8
    tokens: int = 384
    """Longest completion."""
    batch: int = 16
    """Pairs of an optimizer step."""
    steps: int = 20
    """Of DPO on given rows."""
    live_steps: int = 32
    matrix: int = 8192
    sweep: tuple[float, ...] = (1, 4, 16, math.inf)


SMOKE = Plan(
    "tiny", "cpu", "float32", repeats=3, lessons=60, lesson_batch=16, story=8, prompts=4, draws=4, tokens=16, batch=2,
    steps=3, live_steps=2, matrix=256,
)  # fmt: skip


# ------------------------------------------------------------------------------------------------ a policy of stories


def story(random: Random, words: int) -> str:
    """A walk over numbered words, each nearly always followed by the same, that ends at random."""
    word, told = random.randrange(WORDS), list[int]()
    while not told or random.random() > 1 / words:
        told.append(word)
        word = (word * 5 + 1) % WORDS if random.random() < SURE else random.randrange(WORDS)
    return " ".join(f"w{number + 4}" for number in told)


def opening(random: Random) -> str:
    """A prompt: a few words."""
    return " ".join(f"w{random.randrange(WORDS) + 4}" for _ in range(random.randint(8, 64)))


def make_policy(plan: Plan, shape: "Shape", folder: Path) -> dict[str, float]:
    """Trains a policy on stories, saves it, and returns its parameters and its last loss."""
    import torch
    from training_models import random_model, words_tokenizer

    tokenizer, random = words_tokenizer(shape.vocabulary), Random(0)
    model = random_model(shape).to(plan.device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, betas=(0.9, 0.95))
    loss = torch.tensor(math.nan)
    for step in range(plan.lessons):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1.0, (step + 1) / 20)
        texts = [
            f"<user> {opening(random)} <end> <assistant> {story(random, plan.story)} <end>"
            for _ in range(plan.lesson_batch)
        ]
        given = tokenizer(texts, padding=True, truncation=True, max_length=plan.tokens + 70, return_tensors="pt")
        given = given.to(plan.device)
        labels = given["input_ids"].masked_fill(given["attention_mask"] == 0, -100)
        with torch.autocast(plan.device.split(":")[0], torch.bfloat16, enabled=plan.dtype == "bfloat16"):
            loss = model(input_ids=given["input_ids"], attention_mask=given["attention_mask"], labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {"parameters": sum(p.numel() for p in model.parameters()), "loss": round(loss.item(), 3)}


def make_project(plan: Plan, folder: Path) -> None:
    """Prompts and a workspace beside the policy."""
    from prefkit.store.workspace import Workspace

    random = Random(1)
    lines = [json.dumps({"prompt": opening(random)}) for _ in range(8 * plan.prompts)]
    (folder / "prompts.jsonl").write_text("\n".join(lines) + "\n")
    Workspace.create(folder)


def recipe(plan: Plan, sync_period: float) -> "Recipe":
    """The shorter of two stories is better."""
    from prefkit.pipeline.recipe import Recipe

    sample = {
        "backend": "transformers", "n": plan.draws, "max_new_tokens": plan.tokens, "dtype": plan.dtype,
        "device": plan.device, "batch_size": plan.prompts * plan.draws,
    }  # fmt: skip
    args = arguments(plan) | {"max_steps": plan.live_steps}
    given: dict[str, object] = {
        "name": "stories",
        "prompts": {"path": "prompts.jsonl"},
        "policy": {"model": "policy"},
        "sample": sample,
        "score": [{"kind": "verifier", "name": "length", "unit": "words", "max": round(plan.story * math.log(2))}],
        "select": {"kind": "best_vs_worst"},
        "hygiene": {"truncated": False},
        "train": {
            "method": "dpo", "sync_period": sync_period, "reference": "behavior", "prompts": plan.prompts, "args": args,
        },
    }  # fmt: skip
    return Recipe.model_validate(given)


def arguments(plan: Plan) -> dict[str, object]:
    """TRL's, of every training here."""
    return {
        "per_device_train_batch_size": plan.batch, "learning_rate": 1e-6, "logging_steps": 1, "save_strategy": "no",
        "activation_checkpointing": False, "bf16": plan.dtype == "bfloat16",
    }  # fmt: skip


# --------------------------------------------------------------------------------------------------------- the stages


def matrix_peak(plan: Plan) -> float:
    """Operations per second of large matrix products, the best of several."""
    import torch

    a, b = (torch.randn(plan.matrix, plan.matrix, device=plan.device, dtype=getattr(torch, plan.dtype)) for _ in "ab")
    seconds = [_seconds(plan, lambda: torch.mm(a, b)) for _ in range(10)]
    return 2 * plan.matrix**3 / min(seconds)


def sampling(plan: Plan, shape: "Shape", folder: Path, peak: float) -> tuple[dict[str, float], list["Sample"]]:
    """Tokens sampled per second, and what was sampled: `draws` of each prompt, one prompt after the other."""
    from prefkit.pipeline.training.running import policy_of
    from prefkit.sampling.protocol import Sample, SampleRequest
    from prefkit.sampling.registry import open_synced

    config = recipe(plan, 1)
    sampler = open_synced(config.sample[0], policy_of(config, folder), "stories/0")
    requests = [
        SampleRequest((number * plan.draws + draw).to_bytes(16, "big"), prompt)
        for number, prompt in enumerate(prompts(plan))
        for draw in range(plan.draws)
    ]
    list(sampler.sample(requests[: plan.draws]))  # so that kernels are there
    found: dict[bytes, Sample] = {}

    def work() -> None:
        for batch in sampler.sample(requests):
            found.update((sample.completion_id, sample) for sample in batch if isinstance(sample, Sample))

    measured = _measured(plan, work)
    samples = [found[request.completion_id] for request in requests]
    tokens = sum(len(sample.token_ids or ()) for sample in samples)
    told = _told(measured, tokens, 2 * shape.multiplied, peak)
    return told | {"mean_length": round(tokens / len(samples), 1)}, samples


def prompts(plan: Plan) -> list[list["Message"]]:
    """Those of the sampling stage."""
    random = Random(2)
    return [[{"role": "user", "content": opening(random)}] for _ in range(plan.prompts)]


def reference(
    plan: Plan, shape: "Shape", folder: Path, peak: float, samples: Sequence["Sample"]
) -> tuple[dict[str, float], list[dict[str, object]]]:
    """Tokens read per second by the reference, and a trainer's rows: of each prompt the shortest and longest answer."""
    from prefkit.shift.protocol import Text
    from prefkit.shift.registry import Reference, open_reference

    model = open_reference(Reference(str(folder / "policy"), dtype=plan.dtype, device=plan.device))
    texts = [
        Text(s.completion_id, prompts_, [{"role": "assistant", "content": s.text}], s.token_ids)
        for number, prompts_ in enumerate(prompts(plan))
        for s in samples[number * plan.draws : (number + 1) * plan.draws]
    ]
    rows = model.trained(texts, 1024)
    sums: dict[bytes, float] = {}

    def work() -> None:
        for batch in model.logprobs(rows):
            sums.update((scored.id, math.fsum(scored.logprobs)) for scored in batch)

    list(model.logprobs(rows[: plan.draws]))
    told = _told(_measured(plan, work), sum(len(r.prompt_ids) + r.tokens for r in rows), 2 * shape.multiplied, peak)
    groups = [rows[start : start + plan.draws] for start in range(0, len(rows), plan.draws)]
    pairs = [(min(group, key=lambda r: r.tokens), max(group, key=lambda r: r.tokens)) for group in groups]
    trained = [
        {
            "prompt_ids": chosen.prompt_ids, "chosen_ids": chosen.completion_ids, "rejected_ids": other.completion_ids,
            "ref_chosen_logps": sums[chosen.id], "ref_rejected_logps": sums[other.id], "policy_version": None,
        }
        for chosen, other in pairs
    ]  # fmt: skip
    return told, trained


class Given:
    """Given rows over and over, and when each step ended; implements `TrainingStream`."""

    def __init__(self, rows: Sequence[Mapping[str, object]], device: str) -> None:
        self._rows = rows
        self._device = device
        self.tokens = [0]
        """Served before the end of each step, that before the first included."""
        self.ended: list[float] = []

    def rows(self) -> Iterator[Mapping[str, object]]:
        while True:
            for row in self._rows:
                prompt, *sides = (len(cast(list[int], row[f"{name}_ids"])) for name in ("prompt", "chosen", "rejected"))
                self.tokens[-1] += 2 * prompt + sum(sides)
                yield row

    def begin(self, step: int, weights: "Weights") -> None:
        """Nothing is synchronised."""

    def step_done(self, step: int, weights: "Weights") -> None:
        """Notes the time."""
        wait_for(self._device)
        self.ended.append(time.perf_counter())
        self.tokens.append(self.tokens[-1])

    def metrics(self) -> Mapping[str, float]:
        """Nothing is told."""
        return {}

    def save(self, step: int, weights: "Weights") -> None:
        """Nothing is saved."""

    def saved(self, step: int) -> None:
        """Nothing is saved."""


def dpo(
    plan: Plan, shape: "Shape", folder: Path, peak: float, rows: Sequence[Mapping[str, object]]
) -> dict[str, float]:
    """Tokens trained on per second; the first step is not counted."""
    from prefkit.pipeline.recipe import TrainConfig
    from prefkit.pipeline.training.running import policy_of
    from prefkit_trainers.models import open_policy
    from prefkit_trainers.training import train_dpo

    given = {"method": "dpo", "sync_period": 1, "args": arguments(plan) | {"max_steps": plan.steps}}
    stream = Given(rows, plan.device)
    policy = open_policy(policy_of(recipe(plan, 1), folder))
    with tempfile.TemporaryDirectory() as out:
        _, used = _measured(plan, lambda: train_dpo(policy, stream, TrainConfig.model_validate(given), Path(out)))
    seconds, tokens = stream.ended[-1] - stream.ended[0], stream.tokens[-1] - stream.tokens[1]
    told = _told((seconds, used), tokens, 6 * shape.multiplied, peak)
    return told | {"steps_per_second": round((plan.steps - 1) / seconds, 4)}


def live(plan: Plan, folder: Path, sync_period: float, stages: "Stages", name: str) -> dict[str, object]:
    """A run as `prefkit train` does it: steps per second, and where its time goes."""
    from prefkit.pipeline.training.running import RunStart
    from prefkit.store.workspace import Workspace
    from prefkit_trainers import running

    start = RunStart(recipe(plan, sync_period), folder, name=name)
    stages.clock.clear()
    _, used = _measured(plan, lambda: running.train(start, Workspace.open(folder), _silent))
    total = sum(stages.clock.values())
    return {
        "sync_period": "inf" if math.isinf(sync_period) else sync_period,
        "seconds": round(total, 3),
        "steps_per_second": round(plan.live_steps / total, 4),
        "shares": {stage: round(seconds / total, 4) for stage, seconds in stages.clock.most_common()},
        "peak_mb": used,
    }


# ------------------------------------------------------------------------------------------------------ the measuring


def _silent(line: str) -> None:
    """Tells nothing."""


def _seconds(plan: Plan, work: Callable[[], object]) -> float:
    wait_for(plan.device)
    start = time.perf_counter()
    work()
    wait_for(plan.device)
    return time.perf_counter() - start


def _measured(plan: Plan, work: Callable[[], object]) -> tuple[float, int]:
    """Seconds, and the most memory in use, in MB."""
    gc.collect()
    reset_peak(plan.device)
    return _seconds(plan, work), round(peak_bytes(plan.device) / MB)


def _told(measured: tuple[float, int], tokens: int, operations: int, peak: float) -> dict[str, float]:
    seconds, used = measured
    return {
        "seconds": round(seconds, 3),
        "tokens_per_second": round(tokens / seconds),
        "share_of_peak": round(tokens * operations / seconds / peak, 4),
        "peak_mb": used,
    }


def measured(plan: Plan, folder: Path) -> dict[str, object]:
    """Everything, as plain data."""
    import torch
    from training_models import Shape
    from training_stages import MEASURED, Stages

    shape = Shape.of(SHAPES[plan.params])
    policy = make_policy(plan, shape, folder / "policy")
    make_project(plan, folder)
    stages = Stages(settled=lambda: wait_for(plan.device))
    for place, stage in MEASURED.items():
        stages.watch(place, stage)
    stages.watch("prefkit.scoring.rules:has_length", "score")
    rounds: list[dict[str, object]] = []
    for repeat in range(plan.repeats):
        peak = matrix_peak(plan)
        sampled, samples = sampling(plan, shape, folder, peak)
        scored, rows = reference(plan, shape, folder, peak, samples)
        trained = dpo(plan, shape, folder, peak, rows)
        runs = [live(plan, folder, s, stages, f"s-{s:g}-{repeat}") for s in plan.sweep]
        rounds.append(
            {
                "matrix_tflops": round(peak / 1e12, 3),
                "sampling": sampled,
                "reference": scored,
                "dpo": trained,
                "live": runs,
            }
        )
        _tell(repeat, rounds[-1])
    device = torch.cuda.get_device_name() if plan.device != "cpu" else platform.processor() or platform.machine()
    return {
        "machine": {"device": device, "cores": os.cpu_count(), "torch": torch.__version__},
        "plan": asdict(plan) | {"sweep": [r["sync_period"] for r in runs], "shape": str(shape)},
        "policy": policy,
        "medians": {
            stage: {name: median(r[stage][name] for r in rounds) for name in rounds[0][stage]}  # type: ignore[index]
            for stage in ("sampling", "reference", "dpo")
        },
        "rounds": rounds,
    }


def _tell(repeat: int, told: dict[str, object]) -> None:
    print(f"round {repeat}: {json.dumps(told)}", flush=True)


def planned() -> tuple[Plan, Path | None]:
    """What the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--smoke", action="store_true", help="everything, tiny, on a CPU: it works")
    parser.add_argument("--params", choices=SHAPES, default="16M")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.smoke:
        return SMOKE, options.json
    return Plan(options.params, options.device, options.dtype, options.repeats), options.json


def main() -> None:
    """Prints what every round gives and writes all as JSON."""
    plan, target = planned()
    if plan.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a trainer takes every GPU it sees
    os.environ |= {"TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    warnings.filterwarnings("ignore", category=FutureWarning)
    from transformers.utils import logging

    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as scratch:
        told = measured(plan, Path(scratch))
    if target:
        target.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
