"""Tallies: what a stream did since the metrics were last taken, as numbers that a logger takes.

stream/rows, stream/rows/<source>             rows served, and by where their prompts came from
stream/mix/<source>                           share of the rows served, by source of a mix
stream/staleness_mean, stream/staleness/2-3   steps since a row's sampler got its weights: mean, share of rows
stream/chosen_score, stream/rejected_score    means of the rows served; by source stream/chosen_score/<source>
stream/chosen_tokens, stream/rejected_tokens  mean lengths of the rows served
stream/dropped                                rows dropped as too stale
stream/drawn, stream/prompts                  rows and prompts of new micro-batches, and of these:
stream/reward, stream/reward/<source>         mean reward of all labelled completions, selected or not
stream/reward_aspect/<aspect>                 mean score of an aspect, of the same
stream/completion_tokens                      mean length of all completions
stream/share/<stage>/<outcome>                share of the stage's keys that ended so
stream/tie, stream/zero_variance              share of candidate pairs that tie; of prompts whose completions all do
stream/seconds/<stage>, stream/time/<stage>   time and its shares: see `prefkit.stream.timing`; what is taken from the
                                              recording of a run that goes on cost none
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import cast

import polars as pl
import pyarrow as pa

from prefkit.records import COMPLETIONS
from prefkit.selection.outcomes import PromptOutcome, RowOutcome
from prefkit.stream.protocol import MicroBatch
from prefkit.stream.sources import ONLY
from prefkit.stream.timing import SECONDS

SELECT, SELECT_ROWS = "select", "select rows"
LOSING = (SELECT, "pair hygiene", "tokens")
"""Stages in which what could have become a row is lost."""
SURVIVED = ("selected", "kept", "trainable")
SCORES = ("chosen_score", "rejected_score", "score_margin", "score")
TOKENS = {"chosen_ids": "chosen_tokens", "rejected_ids": "rejected_tokens"}
_STEP = "steps_done"
_READ = {
    "source": pl.String, "policy_version": pl.Int64, _STEP: pl.Int64, **dict.fromkeys(SCORES, pl.Float64),
    **dict.fromkeys(TOKENS, pl.List(pl.Int32)),
}  # fmt: skip
_NOTHING = pl.DataFrame(schema=_READ)
_NO_VARIANCE = (PromptOutcome.ALL_TIED, PromptOutcome.NO_CORRECT, PromptOutcome.NO_INCORRECT)


class Tallies:
    """Adds up until the metrics are taken."""

    def __init__(self) -> None:
        self._oldest = 0
        """The last bin of staleness that any row fell into, so that a chart has no holes."""
        self._stages = set[str]()
        """Every stage that ever took time: in a step in which it did nothing it took none."""
        self._clear()

    def _clear(self) -> None:
        self._served = defaultdict[int, list[pa.Table]](list)
        self._mixed = Counter[str]()
        self._outcomes = defaultdict[str, Counter[str]](Counter)
        self._seconds = Counter[str]()
        self._counts = Counter[str]()
        self._sums = defaultdict[str, tuple[float, float]](lambda: (0.0, 0.0))

    def drawn(self, batch: MicroBatch) -> None:
        """A micro-batch was drawn."""
        self._counts["drawn"] += batch.rows.num_rows
        self._counts["prompts"] += batch.prompts
        for stage, counts in batch.outcomes.items():
            self._outcomes[stage].update(counts)
        for name, (total, count) in batch.rewards.items():
            self._add(name, total, count)
        if (completions := batch.facts.get(COMPLETIONS.name)) is not None:
            lengths = cast(pl.Series, pl.from_arrow(completions["token_ids"])).drop_nulls().list.len()
            self._add("completion_tokens", int(lengths.sum()), len(lengths))

    def served(self, rows: pa.Table, step: int, source: str = ONLY) -> None:
        """Rows, possibly a slice of one, were served when this many steps were done, by this source of a mix."""
        self._counts["rows"] += rows.num_rows
        self._mixed[source] += rows.num_rows
        self._served[step].append(rows.select([name for name in _READ if name in rows.column_names]))

    def dropped(self, rows: int) -> None:
        """So many rows were dropped as too stale."""
        self._counts["dropped"] += rows

    def _add(self, name: str, total: float, count: float) -> None:
        summed, counted = self._sums[name]
        self._sums[name] = (summed + total, counted + count)

    def spent(self, stage: str, seconds: float) -> None:
        """A stage took this long."""
        self._stages.add(stage)
        self._seconds[stage] += seconds  # type: ignore[assignment]  # a Counter adds any numbers

    def take(self) -> dict[str, float]:
        """The metrics since the last time, by name; what there was nothing to say of is left out."""
        metrics: dict[str, float] = {f"stream/{name}": float(count) for name, count in self._counts.items()}
        metrics |= {f"{SECONDS}{stage}": float(self._seconds[stage]) for stage in sorted(self._stages)}
        metrics |= {f"stream/{name}": total / count for name, (total, count) in self._sums.items() if count}
        metrics |= _shares(self._outcomes) | _mixed(self._mixed)
        if self._served:
            rows = pl.concat([_NOTHING, *(_at(step, tables) for step, tables in self._served.items())], how="diagonal")
            metrics |= _by_source(rows) | _means(rows) | self._staleness(rows)
        self._clear()
        return metrics

    def _staleness(self, rows: pl.DataFrame) -> dict[str, float]:
        lags = (rows[_STEP] - rows["policy_version"]).drop_nulls()
        if lags.is_empty():
            return {}
        # 0, 1, 2-3, 4-7, ...: the bin of a lag is the number of its binary digits.
        counts = Counter(lag.bit_length() for lag in lags.to_list())
        self._oldest = max(self._oldest, *counts)
        bins = {f"stream/staleness/{_bin(d)}": counts[d] / len(lags) for d in range(self._oldest + 1)}
        return {"stream/staleness_mean": cast(float, lags.mean()), **bins}


def _at(step: int, tables: list[pa.Table]) -> pl.DataFrame:
    rows = pl.DataFrame(pa.concat_tables(tables, promote_options="permissive").combine_chunks())
    return rows.with_columns(pl.lit(step).alias(_STEP)).cast({name: _READ[name] for name in [*rows.columns, _STEP]})


def _bin(digits: int) -> str:
    last = (1 << digits) - 1
    return str(last) if digits < 2 else f"{1 << digits - 1}-{last}"


def _shares(outcomes: Mapping[str, Counter[str]]) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for stage, counts in outcomes.items():
        total = max(1, counts.total())
        name = stage.replace(" ", "_")
        metrics |= {f"stream/share/{name}/{outcome}": count / total for outcome, count in counts.items()}
    for name, stage, told in (("tie", SELECT_ROWS, (RowOutcome.TIE,)), ("zero_variance", SELECT, _NO_VARIANCE)):
        if counts := outcomes.get(stage):
            metrics[f"stream/{name}"] = sum(counts[outcome] for outcome in told) / max(1, counts.total())
    return metrics


def _mixed(rows: Counter[str]) -> dict[str, float]:
    return {f"stream/mix/{source}": count / rows.total() for source, count in rows.items() if source != ONLY}


def _by_source(rows: pl.DataFrame) -> dict[str, float]:
    found = rows.drop_nulls("source").group_by("source").agg(pl.len(), _mean("chosen_score")).sort("source")
    metrics = {f"stream/rows/{source}": float(count) for source, count, _ in found.iter_rows()}
    means = found.drop_nulls("chosen_score")
    return metrics | {f"stream/chosen_score/{source}": mean for source, _, mean in means.iter_rows()}


def _means(rows: pl.DataFrame) -> dict[str, float]:
    lengths = [pl.col(ids).list.len().mean().alias(name) for ids, name in TOKENS.items()]
    means = rows.select(*(_mean(name) for name in SCORES), *lengths).row(0, named=True)
    return {f"stream/{name}": mean for name, mean in means.items() if mean is not None}


def _mean(column: str) -> pl.Expr:
    return pl.col(column).filter(pl.col(column).is_finite()).mean()
