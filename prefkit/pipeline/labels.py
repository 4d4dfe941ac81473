"""The score stage: which labels the recipe needs, which of them are facts already, and how the rest is made.

A label is keyed by (completion, scorer, aspect, repeat, input id), where the input id is a hash of what the scorer read
besides the completion. A corrected gold answer is another input id, so its labels are made anew and no others.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl
import pyarrow as pa

from prefkit.hashing import row_hashes
from prefkit.identity import id_words
from prefkit.pipeline.aligned import aligned, patched
from prefkit.pipeline.answers import answer_columns, next_attempt, store_answers
from prefkit.pipeline.progress import Progress
from prefkit.records import SCORES
from prefkit.row_keys import score_ids
from prefkit.scoring.protocol import Score, ScoreFailure, Scorer, ScoreRequest
from prefkit.store.facts import FactStore, settled
from prefkit.store.id_index import IdIndex

SCORED = "scored"
CHUNK = 20_000
"""Requests handed to a scorer at once."""
LARGEST_SCORE = 1e12
"""Beyond it the differences between scores are lost in rounding; NaN and infinity are no scores either."""
_KEY = ("completion_id", "aspect", "repeat")
_KEY_NUMBERS = ("scorer_id", "repeat", "input_id")


@dataclass(frozen=True, slots=True)
class Labeller:
    """One entry of the `score` list with its identity."""

    scorer_id: int
    aspects: tuple[str, ...]
    repeats: int
    reads: tuple[str, ...]

    @property
    def calls(self) -> int:
        """Labels of one completion."""
        return len(self.aspects) * self.repeats


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


def known_labels(
    facts: FactStore, plans: Sequence[pl.DataFrame], labellers: Sequence[Labeller], at: int
) -> list[pl.DataFrame]:
    """The plans, all over the same candidates, with what the facts know of each key.

    `outcome` (null: not labelled yet), `score`, `attempt`, `transient`, `superseded`. Reads the scores once.
    """
    if not plans:
        return []
    index = IdIndex(id_words(plans[0]["completion_id"].gather_every(labellers[0].calls).to_arrow()))
    where = {"scorer_id": [x.scorer_id for x in labellers]}
    found: list[list[pl.DataFrame]] = [[] for _ in labellers]
    for batch in facts.batches(SCORES, ["completion_id", *_KEY_NUMBERS, "aspect", *_STATUS], where, at):
        rows = pl.DataFrame(batch.drop_columns("completion_id")).with_columns(
            _outcome(), candidate=pl.Series(index.places(id_words(batch["completion_id"])))
        )
        for parts, plan, labeller in zip(found, plans, labellers, strict=True):
            parts.append(_placed(rows, plan, labeller))
    return [_whole(facts, *known, at) for known in zip(plans, found, labellers, strict=True)]


def _placed(rows: pl.DataFrame, plan: pl.DataFrame, labeller: Labeller) -> pl.DataFrame:
    """Those rows that are of the plan's keys, with their `place` in it: it is dense and in order."""
    rows = rows.filter(pl.col("scorer_id") == labeller.scorer_id).with_columns(
        aspect=pl.col("aspect").cast(pl.Enum(labeller.aspects), strict=False).to_physical().cast(pl.Int64)
    )
    asked = (pl.col("candidate") >= 0) & (pl.col("repeat") < labeller.repeats) & pl.col("aspect").is_not_null()
    place = pl.col("candidate") * labeller.calls + pl.col("aspect") * labeller.repeats + pl.col("repeat")
    rows = rows.filter(asked).select(place.alias("place"), "input_id", *_FOUND)
    return rows.filter(rows["input_id"] == plan["input_id"].gather(rows["place"])).drop("input_id")


def _whole(
    facts: FactStore, plan: pl.DataFrame, found: Sequence[pl.DataFrame], labeller: Labeller, at: int
) -> pl.DataFrame:
    known, crowded = aligned(pl.concat(found, rechunk=True), plan.height)
    keys = pl.concat([plan, known], how="horizontal").with_row_index("place")
    if crowded.is_empty():
        return keys
    (now,) = labelled_now(facts, [keys[crowded]], [labeller], at)
    return patched(keys, crowded, now)


def labelled_now(
    facts: FactStore, done: Sequence[pl.DataFrame], labellers: Sequence[Labeller], at: int
) -> list[pl.DataFrame]:
    """What the facts know now of the keys that each labeller just labelled, a row per key in their order."""
    ids = [label_ids(keys, labeller) for keys, labeller in zip(done, labellers, strict=True)]
    rows = settled(facts.gather(SCORES, ["id", "batch_id", *_STATUS], pl.concat(ids), at))
    found = rows.with_columns(_outcome()).select("id", *_FOUND, "superseded")
    return [i.to_frame().join(found, on="id", how="left", maintain_order="left").drop("id") for i in ids]


def label_ids(keys: pl.DataFrame, labeller: Labeller) -> pl.Series:
    """The `id` of the score row of each key."""
    columns = keys.select(*_KEY, "input_id", scorer_id=pl.lit(labeller.scorer_id, pl.Int64))
    rows = columns.cast({"aspect": pl.String}).to_arrow(compat_level=pl.CompatLevel.oldest())
    return pl.Series("id", score_ids(rows), dtype=pl.Binary)


_STATUS = ("score", "failure", "transient", "attempt")
_FOUND = ("score", "outcome", "transient", "attempt")


def _outcome() -> pl.Expr:
    return pl.col("failure").cast(pl.Categorical).fill_null(SCORED).alias("outcome")


def label(facts: FactStore, scorer: Scorer, labeller: Labeller, missing: pl.DataFrame, progress: Progress) -> None:
    """Labels the missing keys, which carry `messages`, `text` and what is read; stores each batch as it finishes."""
    who = f"scorer of {', '.join(labeller.aspects)}"
    for start in range(0, missing.height, CHUNK):
        part = missing.slice(start, CHUNK)
        batches = scorer.score(score_requests(part, labeller))
        store_answers(facts, SCORES, part, _KEY, batches, partial(_rows, labeller), who, progress)


def score_requests(missing: pl.DataFrame, labeller: Labeller) -> list[ScoreRequest]:
    """What the scorer is asked for these keys, which carry `messages`, `text` and what is read."""
    return [_request(row, labeller) for row in missing.iter_rows(named=True)]


def with_texts(
    missing: pl.DataFrame, labeller: Labeller, tasks: pl.DataFrame, candidates: pl.DataFrame
) -> pl.DataFrame:
    """The keys with what the scorer reads: `messages`, `text` and the task's columns it asks for."""
    columns = ["completion_id", pl.col("aspect").cast(pl.String), "repeat", "input_id", "attempt"]
    read = tasks.select("messages", *labeller.reads)[missing["prompt"]]
    return missing.select(columns).with_columns(read, text=candidates["text"].gather(missing["candidate"]))


def _request(row: Mapping[str, object], labeller: Labeller) -> ScoreRequest:
    inputs = {name: row[name] for name in labeller.reads}
    return ScoreRequest(row["completion_id"], row["aspect"], row["repeat"], row["messages"], row["text"], inputs)  # type: ignore[arg-type]


def _rows(
    labeller: Labeller, batch: Sequence[Score | ScoreFailure], planned: Sequence[Mapping[str, object]]
) -> pa.Table:
    rows = [
        answer_columns(answer, "score", -LARGEST_SCORE, LARGEST_SCORE) | _key(labeller, row)
        for answer, row in zip(batch, planned, strict=True)
    ]
    names = [n for n in SCORES.schema.names if n not in ("batch_id", "row_hash", "id")]
    table = pa.Table.from_pylist(rows, schema=pa.schema([SCORES.schema.field(n) for n in names]))
    return table.add_column(0, "id", score_ids(table))


def _key(labeller: Labeller, row: Mapping[str, object]) -> dict[str, object]:
    columns = {name: row[name] for name in (*_KEY, "input_id")}
    return columns | {"scorer_id": labeller.scorer_id, "attempt": next_attempt(row)}
