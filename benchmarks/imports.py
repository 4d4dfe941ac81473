"""Import speed and memory against `datasets`, doing the same normalisation, in one run.

    python benchmarks/imports.py --completions 150000 --json benchmarks/results/imports.json

Two files, prompts and completions, become prompts and completions as messages, each with the model's name and an id by
hash; completions name their prompt by its id. prefkit imports them into a new workspace, which also looks for repeats
within the files, books an outcome per record, and syncs everything to disk. `datasets` loads them into a new cache and
maps them, row by row or in batches, in one process. Files are of generated text, as Parquet and as JSON Lines, and of
`alpaca_eval` below the folder that PREFKIT_REAL_DATA names, where it is set.

Every run is a process of its own; the contestants take turns. Seconds begin after modules were imported, on the clock
and of CPU time, which says more on a machine that others use. Peak memory is what the kernel says (`peak_mb`, with the
pages of mapped files) and, looked at every 10 ms, without them (`peak_own_mb`). Medians of `--repeats`.
"""

import argparse
import importlib
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from datasets import Dataset

Run = Callable[[Path, str, Path], int]
"""From the folder of the files, their ending and a folder to write to, to the number of completions."""

VOCABULARY = 20_000
MODELS = 200
MEAN_CHARACTERS = 1_200
ENDINGS = ("parquet", "jsonl")


def write_files(folder: Path, completions: int) -> None:
    """Seeded texts: words of one to twelve letters, completions of a log-normal length about the mean."""
    rng = np.random.default_rng(0)
    letters = np.array([*"etaoinshrdlucmfwypvbgk", "\u00e9", "\u00fc", "\u6f22"])
    words = ["".join(rng.choice(letters, size)) for size in rng.integers(1, 13, VOCABULARY)]
    prompts = -(-completions // MODELS)
    asked = pl.DataFrame({"prompt_id": range(prompts), "instruction": list(_texts(rng, words, prompts, 160))})
    written = pl.DataFrame(
        {
            "prompt_id": np.arange(completions) // MODELS,
            "model": [f"model-{number % MODELS:03d}" for number in range(completions)],
            "output": list(_texts(rng, words, completions, MEAN_CHARACTERS)),
        }
    )
    for name, frame in {"prompts": asked, "completions": written}.items():
        frame.write_parquet(folder / f"{name}.parquet")
        frame.write_ndjson(folder / f"{name}.jsonl")


def _texts(rng: np.random.Generator, words: list[str], count: int, mean: int) -> Iterator[str]:
    """Pieces of one long text."""
    text = " ".join(words[i] for i in rng.integers(0, len(words), 500_000))
    lengths = np.maximum(20, rng.lognormal(np.log(mean) - 0.32, 0.8, count)).astype(int)
    starts = rng.integers(0, len(text) - 70 * mean, count)
    return (text[start : start + length] for start, length in zip(starts, lengths, strict=True))


def text_mb(folder: Path) -> float:
    """UTF-8 bytes of the completions, in MB."""
    lengths = pl.read_parquet(folder / "completions.parquet", columns=["output"])["output"].str.len_bytes()
    return float(lengths.to_numpy().sum()) / 1e6


def with_prefkit(folder: Path, ending: str, target: Path) -> int:
    """Imports the files into a new workspace."""
    from prefkit.pipeline.imports.importing import import_tables
    from prefkit.sources.config import ImportConfig
    from prefkit.store.workspace import Workspace

    asked = {"prompt": {"text": "instruction", "key": "prompt_id"}}
    written = {"prompt": {"key": "prompt_id"}, "completions": {"reply": {"text": "output", "model": "model"}}}
    tables = [
        {"path": str(folder / f"{name}.{ending}"), **holds}
        for name, holds in {"prompts": asked, "completions": written}.items()
    ]
    workspace = Workspace.create(target)
    done = import_tables(workspace.facts, ImportConfig.model_validate({"name": "replies", "tables": tables}))
    return done.imported.outcomes["completions"]["imported"]


def with_datasets(folder: Path, ending: str, target: Path) -> int:
    """Loads and maps the files row by row."""
    return _mapped(folder, ending, target, _row_by_row)


def with_datasets_in_batches(folder: Path, ending: str, target: Path) -> int:
    """Loads and maps the files in batches of 1,000 rows, the default."""
    return _mapped(folder, ending, target, _in_batches)


def _mapped(folder: Path, ending: str, target: Path, mapped: "Callable[[Dataset, Dataset], int]") -> int:
    import datasets

    datasets.disable_progress_bars()
    kind = {"jsonl": "json", "parquet": "parquet"}[ending]
    prompts, completions = (
        datasets.load_dataset(kind, data_files=str(folder / f"{name}.{ending}"), split="train", cache_dir=str(target))
        for name in ("prompts", "completions")
    )
    return mapped(prompts, completions)


def _id(*parts: str) -> bytes:
    return blake2b("\x00".join(parts).encode(), digest_size=16).digest()


def _row_by_row(prompts: "Dataset", completions: "Dataset") -> int:
    def prompt(row: Mapping[str, str]) -> dict[str, object]:
        text = row["instruction"]
        return {"id": _id(text), "prompt": [{"role": "user", "content": text}]}

    asked = prompts.map(prompt)
    ids = dict(zip(asked["prompt_id"], asked["id"], strict=True))

    def completion(row: Mapping[str, str]) -> dict[str, object]:
        of, model, text = ids[row["prompt_id"]], row["model"], row["output"]
        messages = [{"role": "assistant", "content": text}]
        return {"id": _id(of.hex(), model, text), "prompt": of, "model": model, "completion": messages}

    return len(completions.map(completion, remove_columns=completions.column_names))


def _in_batches(prompts: "Dataset", completions: "Dataset") -> int:
    def prompt(rows: Mapping[str, list[str]]) -> dict[str, object]:
        texts = rows["instruction"]
        return {"id": [_id(t) for t in texts], "prompt": [[{"role": "user", "content": t}] for t in texts]}

    asked = prompts.map(prompt, batched=True)
    ids = dict(zip(asked["prompt_id"], asked["id"], strict=True))

    def completion(rows: Mapping[str, list[str]]) -> dict[str, object]:
        of, models, texts = [ids[key] for key in rows["prompt_id"]], rows["model"], rows["output"]
        return {
            "id": [_id(o.hex(), m, t) for o, m, t in zip(of, models, texts, strict=True)],
            "prompt": of,
            "model": models,
            "completion": [[{"role": "assistant", "content": text}] for text in texts],
        }

    return len(completions.map(completion, batched=True, remove_columns=completions.column_names))


CONTESTANTS: Mapping[str, tuple[Run, tuple[str, ...]]] = {
    "prefkit": (with_prefkit, ("prefkit.pipeline.imports.importing", "prefkit.store.workspace")),
    "datasets, row by row": (with_datasets, ("datasets",)),
    "datasets, in batches": (with_datasets_in_batches, ("datasets",)),
}
"""Each with the modules that it imports before the clock starts."""


def contest(folder: Path, ending: str, rows: int, repeats: int) -> dict[str, dict[str, float]]:
    """The median figures of every contestant over the files of one ending."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in CONTESTANTS}
    for _ in range(repeats):
        for name, (run, modules) in CONTESTANTS.items():
            runs[name].append(in_process(run, modules, folder, ending, rows))
    return {name: {key: statistics.median(f[key] for f in found) for key in found[0]} for name, found in runs.items()}


def in_process(run: Run, modules: tuple[str, ...], folder: Path, ending: str, rows: int) -> dict[str, float]:
    """Seconds and peak memory of one run in a new process. Raises RuntimeError when the rows are not as many."""
    target = Path(tempfile.mkdtemp(prefix="prefkit-import-", dir=folder))
    receiver, sender = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_timed, args=(run, modules, folder, ending, target, sender))
    process.start()
    sender.close()  # the child has its own: without ours, its end is seen
    own = 0.0
    while not receiver.poll(0.01):
        own = max(own, _memory_mb(process.pid, "RssAnon"))
    figures, found = receiver.recv()
    process.join()
    shutil.rmtree(target)
    if found != rows:
        raise RuntimeError(f"{run.__name__} brought {found} completions of {folder}, expected {rows}")
    return {**figures, "peak_own_mb": own}


def _timed(run: Run, modules: tuple[str, ...], folder: Path, ending: str, target: Path, sender: Connection) -> None:
    for module in modules:
        importlib.import_module(module)
    started, used = time.perf_counter(), time.process_time()
    found = run(folder, ending, target)
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    sender.send(({"seconds": seconds, "cpu_seconds": cpu, "peak_mb": _memory_mb(os.getpid(), "VmHWM")}, found))


def _memory_mb(pid: int | None, field: str) -> float:
    """A field of the kernel's account of a process; 0 for one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field)), 0.0)


def main() -> None:
    """Runs everything and prints, and writes, one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--completions", type=int, default=150_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report: dict[str, object] = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "polars": pl.__version__},
        "repeats": options.repeats,
    }
    scratch = Path(tempfile.mkdtemp(prefix="prefkit-imports-"))
    try:
        write_files(scratch, options.completions)
        report["generated"] = {"completions": options.completions, "text_mb": text_mb(scratch)} | {
            ending: contest(scratch, ending, options.completions, options.repeats) for ending in ENDINGS
        }
        print(json.dumps(report["generated"], indent=1), flush=True)
        if real := os.environ.get("PREFKIT_REAL_DATA"):
            report["alpaca_eval"] = _alpaca_eval(Path(real) / "alpaca_eval", scratch, options.repeats)
    finally:
        shutil.rmtree(scratch)
    text = json.dumps(report, indent=1)
    print(text)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text + "\n")


def _alpaca_eval(source: Path, scratch: Path, repeats: int) -> dict[str, object]:
    """The contest over real outputs."""
    folder = scratch / "alpaca_eval"
    folder.mkdir()
    for name in ("prompts", "completions"):
        shutil.copy(source / f"{name}.parquet", folder)
        pl.read_parquet(source / f"{name}.parquet").write_ndjson(folder / f"{name}.jsonl")
    rows = pl.read_parquet(folder / "completions.parquet", columns=["model"]).height
    return {"completions": rows, "text_mb": text_mb(folder)} | {
        ending: contest(folder, ending, rows, repeats) for ending in ENDINGS
    }


if __name__ == "__main__":
    main()
