"""Reference log-probs: tokens per second and peak memory of a naive loop, TRL's own precompute and prefkit, in one run.

    python benchmarks/logprobs.py --json benchmarks/results/logprobs.json
    python benchmarks/logprobs.py --device cuda --dtype bfloat16 --params 28x1536x151936 --pairs 2000

The same random model (layers x hidden size x vocabulary) scores the same pairs: prompts of a log-normal length (median
150 tokens), chosen and rejected of 20 to 800 tokens (median 180). The naive loop takes batches in the order of the
file, pads them and takes the log-softmax of all logits. TRL's is `DPOTrainer._precompute_ref_logps`, which
`precompute_ref_log_probs` calls, on the rows it prepared; both take batches of 8 pairs, TRL's default. Pairs of 8
samples of one prompt are scored by prefkit alone, with and without sharing the prompt.

Each cell runs in a process of its own: peak memory is that above what the loaded model takes. The engines take turns,
`--repeats` times; the figures are medians. Ratios are of CPU time on a CPU, which other work on the machine disturbs
least, and of the clock on a GPU. In float32 the engines' sums must agree.
"""

import argparse
import json
import math
import multiprocessing
import os
import platform
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import Qwen3ForCausalLM

PAIRS_AT_ONCE = 8
TEMPLATE = "{% for m in messages %}{{ m['content'] + ' ' }}{% endfor %}"
MB = 1 << 20
LARGEST_DIFFERENCE = 0.01
"""Of two sums, which are of the order of -5,000 and of which two engines' are float32."""


@dataclass(frozen=True)
class Job:
    """What is scored, by which model, where."""

    layers: int
    hidden: int
    vocabulary: int
    pairs: int
    device: str
    dtype: str
    threads: int
    samples: int = 2

    @property
    def head_share(self) -> float:
        """The output layer's share of the matrix products that a token costs."""
        head = self.hidden * self.vocabulary
        return head / (head + self.layers * 12 * self.hidden**2)


@dataclass(frozen=True)
class Result:
    """One engine's pass over all completions."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    tokens: int
    """Of prompts and completions, each prompt counted with each of its completions."""
    sums: tuple[float, ...]
    """Of every completion's log-probs, in the order of the file."""


Group = tuple[list[int], list[list[int]]]
Engine = Callable[[Job, list[Group]], "tuple[Callable[[], object], Callable[[object], list[float]]]"]


def groups(job: Job) -> list[Group]:
    """Prompts with completions, as token ids above the special ones."""
    rng = random.Random(0)

    def tokens(median: int, spread: float, least: int, most: int) -> list[int]:
        length = round(math.exp(rng.gauss(math.log(median), spread)))
        return [rng.randrange(8, job.vocabulary) for _ in range(max(least, min(most, length)))]

    count = job.pairs * 2 // job.samples
    return [(tokens(150, 0.7, 15, 600), [tokens(180, 0.8, 20, 800) for _ in range(job.samples)]) for _ in range(count)]


def causal_model(job: Job) -> "Qwen3ForCausalLM":
    """The random model, the same in every process, after a first pass that loads what the device needs."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.set_num_threads(job.threads)
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=job.vocabulary, hidden_size=job.hidden, intermediate_size=3 * job.hidden,
        num_hidden_layers=job.layers, num_attention_heads=job.hidden // 64,
        num_key_value_heads=max(1, job.hidden // 128), head_dim=64, max_position_embeddings=2048,
        tie_word_embeddings=False, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    model = Qwen3ForCausalLM(config).to(job.device, getattr(torch, job.dtype)).eval().requires_grad_(False)
    model(input_ids=torch.zeros((1, 64), dtype=torch.long, device=job.device))
    return model


def naive(job: Job, given: list[Group]) -> tuple[Callable[[], object], Callable[[object], list[float]]]:
    """Padded batches in the order of the file, all logits."""
    import torch

    model = causal_model(job)
    rows = [(prompt, completion) for prompt, completions in given for completion in completions]

    @torch.inference_mode()
    def work() -> list[float]:
        sums: list[float] = []
        for start in range(0, len(rows), 2 * PAIRS_AT_ONCE):
            batch = rows[start : start + 2 * PAIRS_AT_ONCE]
            longest = max(len(p) + len(c) for p, c in batch)
            padding = [longest - len(p) - len(c) for p, c in batch]
            ids = torch.tensor([p + c + [0] * n for (p, c), n in zip(batch, padding, strict=True)], device=job.device)
            mask = torch.tensor([[1] * (longest - n) + [0] * n for n in padding], device=job.device)
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
            logprobs = logits.float().log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
            wanted = mask[:, 1:].bool() & (torch.arange(longest - 1, device=job.device) >= 0)
            for place, (prompt, _) in enumerate(batch):
                wanted[place, : len(prompt) - 1] = False
            sums.extend((logprobs * wanted).sum(-1).tolist())
        return sums

    return work, lambda sums: sums if isinstance(sums, list) else []


def trl(job: Job, given: list[Group]) -> tuple[Callable[[], object], Callable[[object], list[float]]]:
    """What DPOTrainer does at construction with `precompute_ref_log_probs`, on rows that are already tokens."""
    import datasets
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    from trl import DPOConfig, DPOTrainer

    vocabulary = {"<pad>": 0, "<end>": 1} | {f"w{i}": i for i in range(2, job.vocabulary)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<end>", chat_template=TEMPLATE
    )
    folder = tempfile.mkdtemp()

    def message(role: str, ids: list[int]) -> list[dict[str, str]]:
        return [{"role": role, "content": " ".join(f"w{i}" for i in ids)}]

    rows = [
        {"prompt": message("user", p), "chosen": message("assistant", a), "rejected": message("assistant", b)}
        for p, (a, b) in given
    ]
    config = DPOConfig(
        output_dir=folder, max_length=None, report_to=[], use_cpu=job.device == "cpu", bf16=job.dtype == "bfloat16",
        disable_tqdm=True,
    )  # fmt: skip
    trainer = DPOTrainer(
        model=causal_model(job), ref_model=causal_model(job), args=config,
        train_dataset=datasets.Dataset.from_list(rows), processing_class=tokenizer,
    )  # fmt: skip
    assert [row["chosen_ids"] for row in trainer.train_dataset] == [a for _, (a, _) in given]
    trainer._precompute_model_hash = "none"  # noqa: SLF001
    os.environ["TQDM_DISABLE"] = "1"
    names = iter(range(10**6))

    def work() -> object:
        fresh = datasets.Dataset(trainer.train_dataset.data, fingerprint=f"pass{next(names)}-{os.getpid()}")
        return trainer._precompute_ref_logps(fresh, "train", PAIRS_AT_ONCE)  # noqa: SLF001

    def sums(scored: object) -> list[float]:
        assert isinstance(scored, datasets.Dataset)
        columns = zip(scored["ref_chosen_logps"], scored["ref_rejected_logps"], strict=True)
        return [value for pair in columns for value in pair]

    return work, sums


def prefkit(
    job: Job, given: list[Group], calls: int = 1
) -> tuple[Callable[[], object], Callable[[object], list[float]]]:
    """The reference model of prefkit; `calls` deals the completions of each prompt out to so many calls."""
    from prefkit.engines.chat import Chat
    from prefkit.engines.logprobs import TransformersReference
    from prefkit.shift.protocol import Trained

    class NoChat(Chat):
        def __init__(self) -> None:
            """Tokens are given: nothing is rendered."""

    reference = TransformersReference(causal_model(job), NoChat(), "hf:random")
    completions = [(p, c) for p, cs in given for c in cs]
    rows = [Trained(i.to_bytes(8, "big"), p, c, cut=0) for i, (p, c) in enumerate(completions)]

    def work() -> object:
        parts = [rows[start::calls] for start in range(calls)]
        return {
            outcome.id: outcome.logprobs for part in parts for batch in reference.logprobs(part) for outcome in batch
        }

    def sums(scored: object) -> list[float]:
        assert isinstance(scored, dict)
        return [math.fsum(scored[row.id]) for row in rows]

    return work, sums


def prefkit_unshared(job: Job, given: list[Group]) -> tuple[Callable[[], object], Callable[[object], list[float]]]:
    """As `prefkit`, but no two completions of a prompt come in one call."""
    return prefkit(job, given, calls=job.samples)


ENGINES: dict[str, Engine] = {"naive": naive, "trl": trl, "prefkit": prefkit, "prefkit_unshared": prefkit_unshared}


def cell(job: Job, engine: str) -> Result:
    """One engine's pass over everything. Runs in a process of its own."""
    given = groups(job)
    work, sums = ENGINES[engine](job, given)
    before = reset_peak(job.device)
    clock, cpu = time.perf_counter(), time.process_time()
    scored = work()
    wait_for(job.device)
    seconds, cpu_seconds = time.perf_counter() - clock, time.process_time() - cpu
    peak = (peak_bytes(job.device) - before) / MB
    tokens = sum(len(p) + len(c) for p, cs in given for c in cs)
    return Result(seconds, cpu_seconds, peak, tokens, tuple(sums(scored)))


def wait_for(device: str) -> None:
    """Until the device has done what it was told."""
    if device != "cpu":
        import torch

        torch.cuda.synchronize()


def reset_peak(device: str) -> int:
    """Bytes in use now; the peak counts from here (Linux only on a CPU)."""
    if device != "cpu":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak_bytes(device: str) -> int:
    """The most bytes in use since `reset_peak`."""
    if device != "cpu":
        import torch

        return torch.cuda.max_memory_allocated()
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


def in_a_process(job: Job, engine: str) -> Result:
    """A cell, where nothing ran before it."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(cell, job, engine).result()


def compared(job: Job, engines: list[str], repeats: int) -> dict[str, object]:
    """Medians of every engine, and ratios to the first; the engines take turns."""
    results: dict[str, list[Result]] = {name: [] for name in engines}
    for _ in range(repeats):
        for name in engines:
            results[name].append(in_a_process(job, name))
            print(f"  {name:18}{results[name][-1].cpu_seconds:8.1f} s CPU", flush=True)
    seconds = {
        name: statistics.median(r.cpu_seconds if job.device == "cpu" else r.seconds for r in runs)
        for name, runs in results.items()
    }
    peaks = {name: statistics.median(r.peak_mb for r in runs) for name, runs in results.items()}
    first = engines[0]
    apart = [abs(a - b) for n in engines for a, b in zip(results[first][0].sums, results[n][0].sums, strict=True)]
    if job.dtype == "float32" and max(apart) > LARGEST_DIFFERENCE:
        raise SystemExit(f"the engines' sums are {max(apart)} apart, expected at most {LARGEST_DIFFERENCE}")
    tokens = results[first][0].tokens
    return {
        "job": asdict(job) | {"head_share": round(job.head_share, 2), "tokens": tokens},
        "largest_difference_of_a_sum": max(apart),
        "engines": {
            name: {
                "seconds": [round(r.seconds, 2) for r in runs],
                "cpu_seconds": [round(r.cpu_seconds, 2) for r in runs],
                "tokens_per_second": round(tokens / seconds[name]),
                "speed": round(seconds[first] / seconds[name], 2),
                "peak_mb": round(peaks[name]),
                "memory": round(peaks[name] / peaks[first], 3),
            }
            for name, runs in results.items()
        },
    }


def main() -> None:
    """Prints the ratios and writes them as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--params", nargs="+", default=["4x256x32000", "2x768x4000"], help="layers x hidden x vocabulary"
    )
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: list[dict[str, object]] = []
    for params in options.params:
        layers, hidden, vocabulary = map(int, params.split("x"))
        job = Job(layers, hidden, vocabulary, options.pairs, options.device, options.dtype, options.threads)
        for asked, engines in (
            (job, ["naive", "trl", "prefkit"]),
            (replace(job, samples=8), ["prefkit_unshared", "prefkit"]),
        ):
            print(f"{params}, {asked.samples} completions of each prompt", flush=True)
            found.append(compared(asked, engines, options.repeats))
            print(json.dumps(found[-1], indent=1), flush=True)
    if options.json:
        machine = {"cores": os.cpu_count(), "python": platform.python_version()}
        options.json.write_text(json.dumps({"machine": machine, "comparisons": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
