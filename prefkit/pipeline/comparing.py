"""The compare stage: which comparisons of pairwise judges the recipe needs, which are facts, and how the rest is made.

A comparison is keyed by (completion a, completion b, judge, aspect, order shown, repeat, input id) with a the smaller
id. There are few of them beside model calls, so known ones are found by their ids. A judge with a baseline is asked for
some of the pairs, and the comparisons mean the same: going on to all pairs asks for the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import polars as pl
import pyarrow as pa

from prefkit.errors import NotFoundError, suggestion
from prefkit.pipeline.answers import answer_columns, next_attempt, store_answers
from prefkit.pipeline.completions import IMPORTED
from prefkit.pipeline.imports.candidates import places_of
from prefkit.pipeline.labels import input_ids
from prefkit.pipeline.progress import Progress
from prefkit.pipeline.ratings import RATED
from prefkit.records import COMPARISONS, IMPORTED_POLICY
from prefkit.row_keys import comparison_ids
from prefkit.scoring.config import PairwiseJudgeScorer
from prefkit.scoring.judge.bias import PairOutcome, consistency, length_bias, pair_labels, position_bias
from prefkit.scoring.protocol import Comparer, Comparison, ComparisonFailure, ComparisonRequest
from prefkit.store.facts import FactStore, settled
from prefkit.store.manifest import JudgeReport, Measure

CHUNK = 20_000
"""Requests handed to a judge at once."""
_KEY = ("completion_a", "completion_b", "aspect", "order", "repeat")


@dataclass(frozen=True, slots=True)
class Judge:
    """A pairwise judge of the recipe with its identity."""

    config: PairwiseJudgeScorer
    scorer_id: int


def baseline_of(
    config: PairwiseJudgeScorer, imported: pl.DataFrame, cleaned: pl.DataFrame, candidates: pl.DataFrame
) -> pl.Series | None:
    """Per candidate, whether it has the text of a completion of the judge's baseline; None without a baseline.

    `imported` and `cleaned` as `imported_completions` and `completions.cleaned` give them. Exact duplicates were
    dropped: the copy that was kept stands for the baseline, whoever wrote it. Raises NotFoundError for a model of which
    there are no imported completions.
    """
    match config.against:
        case None:
            return None
        case int(block):
            own = cleaned.filter(pl.col("block") == block)
        case str(model):
            own = imported.filter(pl.col("outcome") == IMPORTED, pl.col("policy_id") == f"{IMPORTED_POLICY}{model}")
            if own.is_empty():
                raise NotFoundError(_no_baseline(config, imported))
    places = places_of(cleaned, candidates).join(own, on="completion_id", how="semi")
    return candidates["candidate"].is_in(places["candidate"].implode()).alias("is_baseline")


def _no_baseline(config: PairwiseJudgeScorer, imported: pl.DataFrame) -> str:
    policies = imported.filter(pl.col("outcome") == IMPORTED)["policy_id"].unique()
    known = suggestion(str(config.against), policies.str.strip_prefix(IMPORTED_POLICY).to_list())
    return (
        f"judge {config.model!r} compares against the imported model {config.against!r}, expected one with completions "
        f"in this build, got none: correct `against`{known}"
    )


def pair_count(prompts: pl.Series, baseline: pl.Series | None) -> int:
    """How many pairs the completions of these prompts make: all, or those of a baseline completion and another one.

    `baseline` says of each completion whether it is the baseline's.
    """
    total, own = pl.col("total").cast(pl.Int64), pl.col("own").cast(pl.Int64)
    sizes = pl.DataFrame({"prompt": prompts, "own": False if baseline is None else baseline})
    groups = sizes.group_by("prompt").agg(pl.len().alias("total"), pl.col("own").sum())
    pairs = total * (total - 1) // 2 if baseline is None else own * (total - own)
    return int(groups.select(pairs.sum()).item())


def candidate_pairs(candidates: pl.DataFrame) -> pl.DataFrame:
    """Every pair of candidates of one prompt.

    `prompt`, `first` < `second` (candidates), `completion_a` and `completion_b` (the smaller id first), `text_a`,
    `text_b`, and `turned`: whether `second` is a.
    """
    one = candidates.select("prompt", "completion_id", "text", first="candidate")
    other = candidates.select("prompt", "completion_id", "text", second="candidate")
    pairs = one.join(other, on="prompt", suffix="_second").filter(pl.col("first") < pl.col("second"))
    turned = pl.col("completion_id") > pl.col("completion_id_second")
    sides = {"completion": "completion_id", "text": "text"}
    columns = [
        pl.when(turned == is_a).then(f"{column}_second").otherwise(column).alias(f"{name}_{side}")
        for name, column in sides.items()
        for side, is_a in (("a", True), ("b", False))
    ]
    return pairs.select("prompt", "first", "second", turned.alias("turned"), *columns).sort("first", "second")


def planned_comparisons(
    pairs: pl.DataFrame, tasks: pl.DataFrame, judge: Judge, baseline: pl.Series | None
) -> pl.DataFrame:
    """The keys of a judge with their `id`: its pairs in the orders, aspects and repeats it asks for.

    Its pairs are all, or those of which one candidate is the baseline's; see `baseline_of`.
    """
    config = judge.config
    if baseline is not None:
        pairs = pairs.filter(baseline.gather(pairs["first"]) != baseline.gather(pairs["second"]))
    keys = pairs.with_columns(
        input_ids(tasks, config.reads).gather(pairs["prompt"]).alias("input_id"),
        scorer_id=pl.lit(judge.scorer_id, pl.Int64),
    )
    for name, values in (
        ("order", config.planned_orders),
        ("aspect", config.aspects),
        ("repeat", range(config.repeats)),
    ):
        keys = keys.join(pl.DataFrame({name: pl.Series(values)}), how="cross")
    keys = keys.cast({"repeat": pl.Int32})
    columns = [*_KEY, "scorer_id", "input_id"]
    ids = comparison_ids(keys.select(columns).to_arrow(compat_level=pl.CompatLevel.oldest()))
    return keys.with_columns(id=pl.Series(ids, dtype=pl.Binary))


def known_comparisons(facts: FactStore, plan: pl.DataFrame, judge: Judge, at: int) -> pl.DataFrame:
    """The plan with what the facts know: `outcome` (null: not compared yet), `preference`, `attempt`, `transient`."""
    columns = ["id", "batch_id", "preference", "failure", "transient", "attempt"]
    rows = settled(facts.read(COMPARISONS, columns, {"scorer_id": judge.scorer_id}, at))
    found = rows.select(
        "id", "preference", "transient", "attempt", "superseded", outcome=pl.col("failure").fill_null(RATED)
    )
    return plan.join(found, on="id", how="left", maintain_order="left")


def compare(facts: FactStore, comparer: Comparer, judge: Judge, missing: pl.DataFrame, progress: Progress) -> None:
    """Compares the missing keys, which carry `messages`, both texts and what is read; stores batches as they finish."""
    who = f"judge {judge.config.model}"
    for start in range(0, missing.height, CHUNK):
        part = missing.slice(start, CHUNK)
        batches = comparer.compare(comparison_requests(part, judge))
        store_answers(facts, COMPARISONS, part, _KEY, batches, partial(_rows, judge), who, progress)


def comparison_requests(missing: pl.DataFrame, judge: Judge) -> list[ComparisonRequest]:
    """What the judge is asked for these keys, which carry `messages`, both texts and what is read."""
    return [_request(row, judge) for row in missing.iter_rows(named=True)]


def _request(row: Mapping[str, object], judge: Judge) -> ComparisonRequest:
    inputs = {name: row[name] for name in judge.config.reads}
    key = [row[name] for name in _KEY]
    return ComparisonRequest(*key, row["messages"], row["text_a"], row["text_b"], inputs)  # type: ignore[arg-type]


def _rows(
    judge: Judge, batch: Sequence[Comparison | ComparisonFailure], planned: Sequence[Mapping[str, object]]
) -> pa.Table:
    rows = [
        answer_columns(answer, "preference", 0.0, 1.0) | _key(judge, row)
        for answer, row in zip(batch, planned, strict=True)
    ]
    names = [n for n in COMPARISONS.schema.names if n not in ("batch_id", "row_hash")]
    return pa.Table.from_pylist(rows, schema=pa.schema([COMPARISONS.schema.field(n) for n in names]))


def _key(judge: Judge, row: Mapping[str, object]) -> dict[str, object]:
    columns = {name: row[name] for name in ("id", *_KEY, "input_id")}
    return columns | {"scorer_id": judge.scorer_id, "attempt": next_attempt(row)}


def judged_labels(keys: pl.DataFrame) -> pl.DataFrame:
    """A judge's comparisons as one label per pair and aspect: `entry`, `a`, `b`, `preference`, `outcome`.

    Orders that disagree are a tie; a pair with an order that has no verdict has no label.
    """
    labels = pair_labels(keys.with_columns(judge=pl.lit("")))
    sides = [
        pl.when("turned").then(one).otherwise(other).alias(name)
        for name, one, other in (("a", "second", "first"), ("b", "first", "second"))
    ]
    pairs = keys.select("completion_a", "completion_b", *sides).unique()
    placed = labels.join(pairs, on=["completion_a", "completion_b"], how="left", maintain_order="left")
    complete = pl.col("preference").is_not_null()
    outcome = pl.when(complete).then(pl.lit(RATED)).otherwise(pl.lit(PairOutcome.INCOMPLETE.value))
    return placed.select("a", "b", "preference", entry="aspect", outcome=outcome)


def judge_report(judge: Judge, keys: pl.DataFrame) -> JudgeReport:
    """How far the judge's own comparisons obey the order shown and the length, with 95 % intervals."""
    lengths = [pl.col(f"text_{side}").str.len_chars().alias(f"length_{side}") for side in ("a", "b")]
    rows = keys.with_columns(*lengths, judge=pl.lit(judge.config.model))
    measures = {"position_bias": position_bias, "consistency": consistency, "length_bias": length_bias}
    return {
        "judge": judge.config.model,
        "revision": judge.config.revision,
        "measures": {name: _measured(measure(rows)) for name, measure in measures.items()},
    }


def _measured(found: pl.DataFrame) -> Measure:
    """The one row of a measure; there is none where nothing was compared."""
    if found.is_empty():
        return {"value": None, "low": None, "high": None, "pairs": 0}
    return cast("Measure", found.drop("judge").row(0, named=True))
