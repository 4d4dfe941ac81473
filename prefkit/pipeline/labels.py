"""The score stage: which labels the recipe needs, which of them are facts already, and how the rest is made.

A label is keyed by (completion, scorer, aspect, repeat, input id), where the input id is a hash of what the scorer read
besides the completion. A corrected gold answer is another input id, so its labels are made anew and no others.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from prefkit.errors import LedgerError
from prefkit.hashing import row_hashes
from prefkit.pipeline.aligned import aligned, joined
from prefkit.pipeline.progress import Progress
from prefkit.records import SCORES
from prefkit.row_keys import score_ids
from prefkit.scoring.protocol import Score, ScoreFailure, ScoreFailureKind, Scorer, ScoreRequest
from prefkit.store.facts import FactStore, settled

SCORED = "scored"
CHUNK = 20_000
"""Requests handed to a scorer at once."""
LARGEST_SCORE = 1e12
"""Beyond it the differences between scores are lost in rounding; NaN and infinity are no scores either."""
_KEY = ("completion_id", "aspect", "repeat")


@dataclass(frozen=True, slots=True)
class Labeller:
    """One entry of the `score` list with its identity."""

    scorer_id: int
    aspects: tuple[str, ...]
    repeats: int
    reads: tuple[str, ...]


def input_ids(tasks: pl.DataFrame, reads: Collection[str]) -> pl.Series:
    """For each task, the id of the values a scorer reads of it (columns of the task); 63 bits, as config ids."""
    if not reads:
        return pl.Series("input_id", np.zeros(tasks.height, np.int64))
    read = tasks.select(sorted(reads)).to_arrow().cast(pa.schema([(c, pa.string()) for c in sorted(reads)]))
    return pl.Series("input_id", (row_hashes(read, read.column_names) >> np.uint64(1)).astype(np.int64))


def planned_labels(candidates: pl.DataFrame, tasks: pl.DataFrame, labeller: Labeller) -> pl.DataFrame:
    """The keys of a labeller: `candidate`, `prompt`, `completion_id`, `input_id`, `aspect`, `repeat`, in this order.

    `candidates` are numbered densely from 0.
    """
    inputs = input_ids(tasks, labeller.reads).gather(candidates["prompt"])
    keys = candidates.select("candidate", "prompt", "completion_id").with_columns(input_id=inputs)
    aspects = pl.Series("aspect", labeller.aspects, pl.Enum(labeller.aspects))
    calls = aspects.to_frame().join(pl.DataFrame({"repeat": np.arange(labeller.repeats, dtype=np.int32)}), how="cross")
    return keys.join(calls, how="cross")


def score_rows(facts: FactStore, labellers: Sequence[Labeller], at: int) -> pl.DataFrame:
    """The score rows of several labellers, read in one pass."""
    columns = ["batch_id", "completion_id", "scorer_id", "aspect", "repeat", "input_id", *_STATUS]
    return facts.read(SCORES, columns, {"scorer_id": [x.scorer_id for x in labellers]}, at)


def known_labels(rows: pl.DataFrame, plan: pl.DataFrame, labeller: Labeller) -> pl.DataFrame:
    """The plan with what the score rows know of each key.

    `outcome` (null: not labelled yet), `score`, `attempt`, `transient`, `superseded`.
    """
    calls = len(labeller.aspects) * labeller.repeats
    wanted = plan.gather_every(calls)
    rows = rows.filter(pl.col("scorer_id") == labeller.scorer_id, pl.col("aspect").is_in(labeller.aspects))
    taken, candidate = joined(rows["completion_id"], wanted["completion_id"])
    repeat = rows["repeat"].to_numpy()[taken]
    same_input = rows["input_id"].to_numpy()[taken] == wanted["input_id"].to_numpy()[candidate]
    asked = same_input & (repeat < labeller.repeats)
    aspect = rows["aspect"].cast(pl.Enum(labeller.aspects)).to_physical().to_numpy()[taken].astype(np.int64)
    places = (candidate * calls + aspect * labeller.repeats + repeat)[asked]
    known = aligned(rows.select("batch_id", *_found()), taken[asked], places, plan.height)
    return pl.concat([plan, known], how="horizontal").with_row_index("place")


def labelled_now(
    facts: FactStore, done: Sequence[pl.DataFrame], labellers: Sequence[Labeller], at: int
) -> list[pl.DataFrame]:
    """What the facts know now of the keys that each labeller just labelled, a row per key in their order."""
    ids = [label_ids(keys, labeller) for keys, labeller in zip(done, labellers, strict=True)]
    rows = settled(facts.gather(SCORES, ["id", "batch_id", *_STATUS], pl.concat(ids), at))
    found = rows.select("id", *_found(), "superseded")
    return [i.to_frame().join(found, on="id", how="left", maintain_order="left").drop("id") for i in ids]


def label_ids(keys: pl.DataFrame, labeller: Labeller) -> pl.Series:
    """The `id` of the score row of each key."""
    columns = keys.select(*_KEY, "input_id", scorer_id=pl.lit(labeller.scorer_id, pl.Int64))
    rows = columns.cast({"aspect": pl.String}).to_arrow(compat_level=pl.CompatLevel.oldest())
    return pl.Series("id", score_ids(rows), dtype=pl.Binary)


_STATUS = ("score", "failure", "transient", "attempt")


def _found() -> list[pl.Expr]:
    outcome = pl.col("failure").fill_null(SCORED).alias("outcome")
    return [pl.col("score"), outcome, pl.col("transient"), pl.col("attempt")]


def label(facts: FactStore, scorer: Scorer, labeller: Labeller, missing: pl.DataFrame, progress: Progress) -> None:
    """Labels the missing keys, which carry `messages`, `text` and what is read; stores each batch as it finishes."""
    for start in range(0, missing.height, CHUNK):
        part = missing.slice(start, CHUNK)
        rows = list(part.iter_rows(named=True))
        keys = {tuple(row[k] for k in _KEY): row for row in rows}
        for batch in scorer.score([_request(row, labeller) for row in rows]):
            facts.append(SCORES, _rows(labeller, batch, [_claimed(keys, r) for r in batch]))
            progress.advance(len(batch))
        if keys:
            raise LedgerError(
                f"scorer of {labeller.aspects} answered {len(rows) - len(keys)} of {len(rows)} requests, "
                "expected all: the build is refused"
            )


def _request(row: Mapping[str, object], labeller: Labeller) -> ScoreRequest:
    inputs = {name: row[name] for name in labeller.reads}
    return ScoreRequest(row["completion_id"], row["aspect"], row["repeat"], row["messages"], row["text"], inputs)  # type: ignore[arg-type]


def _claimed(keys: dict[tuple[object, ...], dict[str, object]], result: Score | ScoreFailure) -> dict[str, object]:
    key = (result.completion_id, result.aspect, result.repeat)
    if key not in keys:
        raise LedgerError(
            f"scorer answered {result.completion_id.hex()} on {result.aspect}, which was not asked for or was "
            "answered before: the build is refused"
        )
    return keys.pop(key)


def _rows(labeller: Labeller, batch: Iterable[Score | ScoreFailure], keys: Sequence[dict[str, object]]) -> pa.Table:
    rows = [_result(result) | _key(labeller, key) for result, key in zip(batch, keys, strict=True)]
    names = [n for n in SCORES.schema.names if n not in ("batch_id", "row_hash", "id")]
    table = pa.Table.from_pylist(rows, schema=pa.schema([SCORES.schema.field(n) for n in names]))
    return table.add_column(0, "id", score_ids(table))


def _key(labeller: Labeller, key: Mapping[str, object]) -> dict[str, object]:
    attempt = key["attempt"]
    return {
        **{name: key[name] for name in (*_KEY, "input_id")},
        "scorer_id": labeller.scorer_id,
        "attempt": attempt + 1 if isinstance(attempt, int) else 0,
    }


def _result(result: Score | ScoreFailure) -> dict[str, object]:
    spent: dict[str, object] = {
        name: getattr(result, name) for name in ("raw", "input_tokens", "output_tokens", "cost")
    }
    if isinstance(result, ScoreFailure):
        return spent | _failure(result.kind, result.detail)
    if not abs(result.score) <= LARGEST_SCORE:  # NaN compares false
        expected = f"expected a number between -{LARGEST_SCORE:g} and {LARGEST_SCORE:g}"
        return spent | _failure(ScoreFailureKind.UNPARSABLE, f"the score is {result.score}, {expected}")
    return spent | {"score": result.score, "rationale": result.rationale, "transient": False}


def _failure(kind: ScoreFailureKind, detail: str | None) -> dict[str, object]:
    return {"failure": str(kind), "detail": detail, "transient": kind.transient}
