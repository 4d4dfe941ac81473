"""The core at size: selection, rebuilds, commits and reads, in one run.

    python benchmarks/core.py --prompts 125000 --commits 5000 --json benchmarks/results/core.json

Selection over prompts x 8 scored completions with 4 aspects is timed against a plain Python loop and pandas (see
selection.py). The same number of completions and labels are put into a workspace as facts, and builds over them are
timed: unchanged (in process and by the command line), with other weights of the aspects, with one prompt added, and
unchanged after facts of another recipe arrived. Then many small durable commits against one bulk commit, and random
reads of a version. Medians of `--repeats` where a step can be repeated; peak memory is that of the process that did
the step.
"""

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import selection

from prefkit.pipeline.build import Built, build
from prefkit.pipeline.draws import draw_ids
from prefkit.pipeline.imports.content import feeding, source_tasks
from prefkit.pipeline.imports.importing import import_prompts
from prefkit.pipeline.labels import input_ids
from prefkit.pipeline.recipe import Recipe
from prefkit.pipeline.resolve import Resolved, resolved
from prefkit.records import COMPLETIONS, SCORES, FactTable
from prefkit.row_keys import score_ids
from prefkit.store.files import tree_bytes
from prefkit.store.gc import collect
from prefkit.store.lance_facts import STAMPS, LanceFacts
from prefkit.store.workspace import Workspace

N = 8
ASPECTS = ("helpful", "honest", "instruction", "truthful")
BULK = 250_000
"""Rows of one bulk commit."""


def recipe(**blocks: object) -> dict[str, object]:
    """The recipe over the facts of the workspace."""
    return {
        "name": "big",
        "prompts": {"path": "problems.jsonl"},
        "sample": {"backend": "fake", "n": N},
        "score": [{"kind": "fake", "aspect": a} for a in ASPECTS],
        "aggregate": {"kind": "weights", "weights": dict.fromkeys(ASPECTS, 1.0)},
        "select": {"kind": "best_vs_worst"},
    } | blocks


def built(folder: Path, **blocks: object) -> Built:
    """Builds the recipe as a new process would: nothing is open yet."""
    return build(Recipe.model_validate(recipe(**blocks)), Workspace.open(folder), folder)


def write_problems(folder: Path, count: int) -> None:
    """So many prompts of about 230 characters, as JSONL."""
    words = np.random.default_rng(1).integers(0, 10**9, (count, 24)).astype(str)
    texts = pl.DataFrame(words).select(pl.concat_str(pl.all(), separator=" ").str.slice(0, 230)).to_series()
    lines = pl.DataFrame({"prompt": texts, "answer": np.arange(count).astype(str)})
    lines.write_ndjson(folder / "problems.jsonl")


def fill(folder: Path, prompts: int) -> None:
    """A workspace whose facts hold every completion (about 220 characters) and label, and its first version."""
    write_problems(folder, prompts)
    workspace = Workspace.create(folder)
    target = resolved(Recipe.model_validate(recipe()), folder)
    import_prompts(workspace.facts, folder / "problems.jsonl", {}, target.source)
    tasks = source_tasks(
        workspace.facts, feeding(workspace.facts, target.source), workspace.facts.heads()
    ).with_row_index("prompt")
    keys = tasks.select("prompt", "prompt_id").join(
        pl.DataFrame({"sample_index": np.arange(N, dtype=np.int32)}), how="cross"
    )
    ids = draw_ids(keys["prompt_id"].to_arrow(), target.blocks[0], keys["sample_index"].to_numpy())
    _bulk(workspace.facts, COMPLETIONS, _completions(keys, ids, target))
    for number in range(len(ASPECTS)):
        inputs = tasks.select("prompt", input_ids(tasks, target.labellers[number].reads))
        _bulk(
            workspace.facts,
            SCORES,
            _scores(keys.join(inputs, on="prompt", how="left", maintain_order="left"), ids, target, number),
        )
    workspace.facts.compact(COMPLETIONS)
    workspace.facts.compact(SCORES)
    built(folder)


def _completions(keys: pl.DataFrame, ids: pa.Array, target: Resolved) -> pa.Table:
    rng = np.random.default_rng(2)
    pieces = pl.Series([f"{w:016x} " for w in rng.integers(0, 2**63, 4096)])
    text = pl.select(pl.concat_str([pieces.gather(rng.integers(0, 4096, keys.height)) for _ in range(13)])).to_series()
    role = pl.repeat("assistant", keys.height, eager=True).alias("role")
    message = pl.DataFrame([role, text.alias("content")]).to_struct("message")
    rows = keys.select(
        "prompt_id", "sample_index", completion=message.reshape((keys.height, 1)).arr.to_list(),
        finish_reason=pl.lit("stop"),
        attempt=pl.lit(0, pl.Int32), transient=pl.lit(value=False),
        **{name: pl.lit(value) for name, value in target.blocks[0].where.items()},
    ).to_arrow(compat_level=pl.CompatLevel.oldest())  # fmt: skip
    return _whole(COMPLETIONS, rows.append_column("id", ids))


def _scores(keys: pl.DataFrame, ids: pa.Array, target: Resolved, number: int) -> pa.Table:
    labeller = target.labellers[number]
    score = np.random.default_rng(number).integers(1, 6, keys.height).astype(np.float64)
    rows = keys.select(
        "input_id", score=pl.Series(score), repeat=pl.lit(0, pl.Int32), aspect=pl.lit(labeller.aspects[0]),
        scorer_id=pl.lit(labeller.scorer_id, pl.Int64), attempt=pl.lit(0, pl.Int32), transient=pl.lit(value=False),
    ).to_arrow(compat_level=pl.CompatLevel.oldest())  # fmt: skip
    rows = _whole(SCORES, rows.append_column("completion_id", ids))
    return rows.set_column(rows.column_names.index("id"), "id", score_ids(rows))


def _whole(table: FactTable, rows: pa.Table) -> pa.Table:
    fields = [f for f in table.schema if f.name not in STAMPS]
    return pa.table(
        {
            f.name: rows[f.name].cast(f.type) if f.name in rows.column_names else pa.nulls(rows.num_rows, f.type)
            for f in fields
        }
    )


def _bulk(facts: LanceFacts, table: FactTable, rows: pa.Table) -> None:
    for start in range(0, rows.num_rows, BULK):
        facts.append(table, rows.slice(start, BULK))


def in_process(step: Callable[..., dict[str, float]], *arguments: object) -> dict[str, float]:
    """The step's figures and the peak memory of a new process that ran it."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measured, (step, arguments))


def _measured(step: Callable[..., dict[str, float]], arguments: tuple[object, ...]) -> dict[str, float]:
    figures = step(*arguments)
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return figures | {"peak_mb": int(peak.split()[1]) / 1024}


def timed(folder: Path, expected_calls: int, blocks: dict[str, object]) -> dict[str, float]:
    """Seconds of one build; the calls it made must be as expected."""
    started = time.perf_counter()
    done = built(folder, **blocks)
    seconds = time.perf_counter() - started
    if done.drawn + done.labelled != expected_calls:
        raise RuntimeError(f"the build made {done.drawn + done.labelled} calls, expected {expected_calls}")
    return {"seconds": seconds, "new": float(done.new), "calls": float(done.drawn + done.labelled)}


def by_command_line(folder: Path) -> dict[str, float]:
    """Seconds of `prefkit build` on an unchanged recipe, start of the interpreter included."""
    (folder / "recipe.yaml").write_text(json.dumps(recipe()))
    command = [
        sys.executable,
        "-c",
        "from prefkit.cli import main; main()",
        "build",
        str(folder / "recipe.yaml"),
        "--json",
    ]
    started = time.perf_counter()
    subprocess.run(
        [*command, "--workspace", str(folder)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return {"seconds": time.perf_counter() - started}


def builds(folder: Path, repeats: int) -> dict[str, dict[str, float]]:
    """Every kind of rebuild over the same facts."""
    results = {"unchanged, in process": _median([in_process(timed, folder, 0, {}) for _ in range(repeats)])}
    results["unchanged, command line"] = _median([by_command_line(folder) for _ in range(repeats)])
    weighed = [
        {"aggregate": {"kind": "weights", "weights": {a: i + k + 2.0 for i, a in enumerate(ASPECTS)}}}
        for k in range(repeats)
    ]
    results["other weights, no calls"] = _median([in_process(timed, folder, 0, w) for w in weighed])
    added: list[dict[str, float]] = []
    for number in range(repeats):
        with (folder / "problems.jsonl").open("a") as file:
            file.write(json.dumps({"prompt": f"one more prompt, number {number}", "answer": "1"}) + "\n")
        # the fake sampler repeats itself, so fewer than 8 of a prompt's completions may pass hygiene
        added.append(in_process(timed_added, folder))
    results["one prompt added"] = _median(added)
    built(
        folder,
        name="other",
        score=[{"kind": "fake", "seed": 9}],
        aggregate={"kind": "mean"},
        prompts={"path": "problems.jsonl", "limit": 10},
    )
    results["unchanged after facts of another recipe"] = _median(
        [in_process(timed, folder, 0, {}) for _ in range(repeats)]
    )
    return results


def timed_added(folder: Path) -> dict[str, float]:
    """Seconds of a build after one prompt was added."""
    started = time.perf_counter()
    done = built(folder)
    seconds = time.perf_counter() - started
    if done.drawn != N or not 0 < done.labelled <= N * len(ASPECTS):
        raise RuntimeError(
            f"one prompt added drew {done.drawn} and labelled {done.labelled}, "
            f"expected {N} and at most {N * len(ASPECTS)}"
        )
    return {"seconds": seconds, "calls": float(done.drawn + done.labelled)}


def _median(runs: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(r[key] for r in runs) for key in runs[0]}


def commits(folder: Path, count: int) -> dict[str, float]:
    """Seconds of `count` durable commits of 64 completions, and their size on disk against one bulk commit."""
    rng = np.random.default_rng(0)
    facts = [Workspace.create(_made(folder / name)) for name in ("small", "bulk")]
    batches = [_batch(rng, number) for number in range(count)]
    seconds: list[float] = []
    for batch in batches:
        started = time.perf_counter()
        facts[0].facts.append(COMPLETIONS, batch)
        seconds.append(time.perf_counter() - started)
    facts[1].facts.append(COMPLETIONS, pa.concat_tables(batches))
    started = time.perf_counter()
    facts[0].facts.compact(COMPLETIONS)
    collect(facts[0])
    tidying = time.perf_counter() - started
    small, bulk = (tree_bytes(f.root / "facts") for f in facts)
    first, last = statistics.mean(seconds[:100]), statistics.mean(seconds[-100:])
    return {
        "commits": count, "first_100_ms": first * 1000, "last_100_ms": last * 1000, "last_over_first": last / first,
        "median_ms": statistics.median(seconds) * 1000, "total_s": sum(seconds), "compact_and_gc_s": tidying,
        "disk_mb": small / 1e6, "bulk_disk_mb": bulk / 1e6, "disk_over_bulk": small / bulk,
    }  # fmt: skip


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _batch(rng: np.random.Generator, number: int) -> pa.Table:
    rows = 64
    texts = [" ".join(map(str, rng.integers(0, 10**6, 60))) for _ in range(rows)]
    columns = {
        "id": [rng.bytes(16) for _ in range(rows)],
        "prompt_id": [number.to_bytes(16, "big")] * rows,
        "policy_id": ["hf:0123456789abcdef0123456789abcdef"] * rows,
        "policy_version": [0] * rows, "sampler_id": [7] * rows, "sample_index": list(range(rows)),
        "completion": [[{"role": "assistant", "content": t}] for t in texts],
        "token_ids": [rng.integers(0, 32_000, 80).tolist() for _ in range(rows)],
        "finish_reason": ["stop"] * rows, "transient": [False] * rows, "attempt": [0] * rows,
    }  # fmt: skip
    fields = [f for f in COMPLETIONS.schema if f.name not in STAMPS]
    return pa.table({f.name: pa.array(columns.get(f.name, [None] * rows), f.type) for f in fields})


def random_reads(folder: Path, repeats: int) -> dict[str, float]:
    """Seconds to read 10,000 random rows, and 64, of a memory-mapped version, all columns."""
    path = Workspace.open(folder).versions.get("big").path("train")
    rows = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    rng = np.random.default_rng(3)

    def seconds(count: int) -> float:
        picked = pa.array(np.sort(rng.integers(0, rows.num_rows, count)))
        started = time.perf_counter()
        rows.take(picked)
        return time.perf_counter() - started

    return {
        f"{count}_rows_ms": statistics.median(seconds(count) for _ in range(repeats)) * 1000 for count in (10_000, 64)
    }


def main() -> None:
    """Runs everything and prints, and writes, one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=125_000)
    parser.add_argument("--commits", type=int, default=5_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--skip-selection", action="store_true", help="leave the comparison with Python and pandas out")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report: dict[str, object] = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "polars": pl.__version__},
        "rows": options.prompts * N,
    }
    scratch = Path(tempfile.mkdtemp(prefix="prefkit-core-"))
    try:
        if not options.skip_selection:
            rows = options.prompts * N
            cells = selection.benchmark(rows, options.repeats, selection.contests(rows))
            report["selection"] = {kind: {e: asdict(c) for e, c in row.items()} for kind, row in cells.items()}
        started = time.perf_counter()
        fill(_made(scratch / "big"), options.prompts)
        report["filling_s"] = time.perf_counter() - started
        report["builds"] = builds(scratch / "big", options.repeats)
        print(json.dumps(report["builds"], indent=1), flush=True)
        report["random_reads"] = random_reads(scratch / "big", options.repeats)
        report["commits"] = commits(scratch / "commits", options.commits)
    finally:
        shutil.rmtree(scratch)
    text = json.dumps(report, indent=1)
    print(text)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
