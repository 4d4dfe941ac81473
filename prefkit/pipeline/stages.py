"""The stages of a build, from an import to the rows of a version, each accounted for in the ledger.

Every stage is the same move: work out the keys it needs, subtract the facts there are, compute the rest, and read the
facts again at one table version, which is then pinned. `Maker` computes what is missing; without one, the stages only
read, as of given pins: that is how a version is rebuilt, and why it is a pure function of recipe and pinned facts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl

from prefkit.errors import DamageError, LedgerError
from prefkit.hygiene.outcomes import pair_outcomes
from prefkit.identity import id_words, row_ids
from prefkit.ledger import Ledger, StageAccount
from prefkit.pipeline.aligned import patched
from prefkit.pipeline.completions import DRAW_COLUMNS, candidates_of, cleaned
from prefkit.pipeline.draws import SAMPLED, Block, drawn_now, known_draws, planned_draws
from prefkit.pipeline.importing import Import, source_tasks
from prefkit.pipeline.labels import SCORED, Labeller, known_labels, label_ids, labelled_now, planned_labels, score_rows
from prefkit.pipeline.outcomes import Dropped
from prefkit.pipeline.prompts import KEPT, numbered, prompt_stage
from prefkit.pipeline.resolve import Resolved
from prefkit.pipeline.rows import TEST, TRAIN, pair_rows, split_of, subset_rows, wide_scores
from prefkit.records import COMPLETIONS, SCORES, FactTable
from prefkit.selection.aggregation import aggregated_score
from prefkit.selection.config import PairBase
from prefkit.selection.outcomes import RowOutcome, Selection
from prefkit.selection.strategies import select
from prefkit.sources.prompts import ImportOutcome
from prefkit.store.facts import FactStore, settled

FEW = 10_000
"""So many new keys are read again by themselves; after more, the whole table is."""


class Maker(Protocol):
    """Computes missing facts."""

    def draw(self, block: Block, keys: pl.DataFrame, tasks: pl.DataFrame) -> pl.DataFrame:
        """Draws what is missing of a block's keys and returns those keys; each has one more row of facts."""
        ...

    def label(
        self, labeller: Labeller, keys: pl.DataFrame, tasks: pl.DataFrame, candidates: pl.DataFrame
    ) -> pl.DataFrame:
        """Labels what is missing of a labeller's keys and returns those keys; each has one more row of facts."""
        ...


@dataclass
class Stages:
    """One pass through all stages. `pins` gives the table versions to read; a live pass fills it as it goes."""

    recipe: Resolved
    facts: FactStore
    pins: dict[str, int]
    maker: Maker | None
    ledger: Ledger = field(default_factory=Ledger)
    dropped: Dropped = field(default_factory=Dropped)
    to_retry: int = 0
    """Keys that failed for a passing reason: the next build tries them again."""
    superseded: int = 0
    """Rows that other rows of the same key stand for."""

    def run(self, imported: Import) -> dict[str, pl.DataFrame]:
        """The rows of the version by split; `ledger`, `dropped` and `pins` are full afterwards."""
        tasks = self.prompts(imported)
        candidates = self.scored(tasks)
        selection = self.select(candidates, tasks)
        return self.split(self.rows(selection, candidates, tasks), tasks)

    def everything(self, imported: Import) -> pl.DataFrame:
        """Every completion that could have been selected, in the columns of a version of single completions."""
        tasks = self.prompts(imported)
        candidates = self.scored(tasks)
        unknown = {"label": pl.lit(None, pl.Boolean), "weight": pl.lit(None, pl.Float64)}
        every = candidates.select("prompt", "candidate", **unknown)
        return subset_rows(every, tasks, self._whole(candidates))

    def scored(self, tasks: pl.DataFrame) -> pl.DataFrame:
        """The candidates with their `scores` per aspect and their aggregated `score`."""
        candidates = self.completions(self.sample(tasks))
        scores = self.score(candidates, tasks)
        score = aggregated_score(scores, self.recipe.recipe.aggregate)
        return candidates.with_columns(score.alias("score"), scores.to_struct("scores"))

    def prompts(self, imported: Import) -> pl.DataFrame:
        """The tasks of the build, numbered by prompt."""
        rows = sum(imported.outcomes.values())
        new = imported.outcomes.get(ImportOutcome.IMPORTED, 0)
        self.ledger.put(StageAccount("import", "source row", rows, imported.outcomes, new))
        recipe = self.recipe.recipe
        tasks = prompt_stage(source_tasks(self.facts, imported.id, self.pins), recipe.hygiene, recipe.prompts.limit)
        self.ledger.add("prompt hygiene", "task", new, tasks["outcome"], [KEPT])
        self.dropped.add("prompt hygiene", tasks.filter(pl.col("outcome") != KEPT).with_columns(id="task_id"))
        return numbered(tasks)

    def sample(self, tasks: pl.DataFrame) -> pl.DataFrame:
        """Every planned draw with its outcome and, where it succeeded, the completion."""
        blocks = self.recipe.blocks
        plans = [planned_draws(tasks, block) for block in blocks]
        draws = self._draws(plans)
        if self.maker:
            done = [self.maker.draw(b, d, tasks) for b, d in zip(blocks, draws, strict=True)]
            if self._pinned_few(COMPLETIONS, done):
                at = self.pins[COMPLETIONS.name]
                now = [drawn_now(self.facts, d, DRAW_COLUMNS, at) for d in done]
                draws = [patched(k, d["place"], n) for k, d, n in zip(draws, done, now, strict=True)]
            else:
                draws = self._draws(plans)
        together = draws[0] if len(draws) == 1 else pl.concat(draws).sort("prompt", "block", "sample_index")
        self._settle(together, "draws")
        planned = self.ledger.kept("prompt hygiene") * sum(b.n for b in blocks)
        self.ledger.add("sample", "draw", planned, together["outcome"], [SAMPLED])
        self.dropped.add("sample", together.filter(pl.col("outcome") != SAMPLED).with_columns(id="completion_id"))
        return together

    def completions(self, draws: pl.DataFrame) -> pl.DataFrame:
        """The completions that pass hygiene, numbered."""
        completions = cleaned(draws, self.recipe.recipe.hygiene)
        self.ledger.add("completion hygiene", "completion", self.ledger.kept("sample"), completions["outcome"], [KEPT])
        self.dropped.add(
            "completion hygiene", completions.filter(pl.col("outcome") != KEPT).with_columns(id="completion_id")
        )
        return candidates_of(completions)

    def score(self, candidates: pl.DataFrame, tasks: pl.DataFrame) -> pl.DataFrame:
        """One Float64 column per aspect, a row per candidate; null where there is no score."""
        labellers = self.recipe.labellers
        plans = [planned_labels(candidates, tasks, x) for x in labellers]
        labels = self._labels(plans)
        if self.maker:
            done = [self.maker.label(x, k, tasks, candidates) for x, k in zip(labellers, labels, strict=True)]
            if self._pinned_few(SCORES, done):
                now = labelled_now(self.facts, done, labellers, self.pins[SCORES.name])
                labels = [patched(k, d["place"], n) for k, d, n in zip(labels, done, now, strict=True)]
            else:
                labels = self._labels(plans)
        outcomes = pl.concat([x.select("outcome", "transient", "superseded") for x in labels])
        self._settle(outcomes, "labels")
        planned = self.ledger.kept("completion hygiene") * sum(len(x.aspects) * x.repeats for x in labellers)
        self.ledger.add("score", "label", planned, outcomes["outcome"], [SCORED])
        for keys, labeller in zip(labels, labellers, strict=True):
            failed = keys.filter(pl.col("outcome") != SCORED)
            ids = label_ids(failed, labeller)
            self.dropped.add("score", _with_prompt_id(failed.with_columns(ids, detail="aspect"), tasks))
        return wide_scores(labels, [(x.aspects, x.repeats) for x in labellers])

    def select(self, candidates: pl.DataFrame, tasks: pl.DataFrame) -> Selection:
        """What the strategy selects, by number."""
        columns = candidates.select(
            "prompt",
            "candidate",
            "score",
            pl.col("completion_id").bin.slice(0, 8).bin.reinterpret(dtype=pl.UInt64, endianness="little").alias("key"),
            pl.col("text").str.len_chars().cast(pl.UInt32).alias("length"),
            source=tasks["source"].gather(candidates["prompt"]),
        )
        selection = select(columns, self.recipe.recipe.select, prompts=tasks.height)
        self.ledger.add(
            "select", "prompt", self.ledger.kept("prompt hygiene"), selection.prompts["outcome"], [RowOutcome.SELECTED]
        )
        unselected = selection.prompts.filter(pl.col("outcome").cast(pl.String) != RowOutcome.SELECTED)
        self.dropped.add("select", _with_prompt_id(unselected, tasks).with_columns(id="prompt_id"))
        unit = self._row_unit()
        planned = self.ledger.kept("completion hygiene") if unit == "completion" else selection.rows.height
        self.ledger.add("select rows", unit, planned, selection.rows["outcome"], [RowOutcome.SELECTED])
        told = selection.rows.filter(
            ~pl.col("outcome").cast(pl.String).is_in([RowOutcome.SELECTED, RowOutcome.NOT_SELECTED])
        )
        self.dropped.add("select rows", self._named_rows(told, candidates, tasks))
        return selection

    def rows(self, selection: Selection, candidates: pl.DataFrame, tasks: pl.DataFrame) -> pl.DataFrame:
        """The selected rows with their texts, tokens and scores; pairs of equal texts are dropped."""
        selected = selection.selected
        sides = ["chosen", "rejected"] if "chosen" in selected.columns else ["candidate"]
        used = pl.concat([selected.select(candidate=side) for side in sides]).unique().sort("candidate")
        texts = self._whole(candidates[used["candidate"]])
        if sides == ["candidate"]:
            return subset_rows(selected, tasks, texts)
        rows = pair_rows(selected, tasks, texts)
        by_number = texts.select("candidate", "text")
        both = [
            selected.select(candidate=side).join(by_number, on="candidate", how="left", maintain_order="left")["text"]
            for side in sides
        ]
        rows = rows.with_columns(outcome=pair_outcomes(*both).cast(pl.String).fill_null(KEPT))
        self.ledger.add("pair hygiene", "pair", self.ledger.kept("select rows"), rows["outcome"], [KEPT])
        self.dropped.add("pair hygiene", rows.filter(pl.col("outcome") != KEPT).with_columns(id="pair_id"))
        return rows.filter(pl.col("outcome") == KEPT).drop("outcome")

    def split(self, rows: pl.DataFrame, tasks: pl.DataFrame) -> dict[str, pl.DataFrame]:
        """The rows by split."""
        splits = tasks.select("prompt_id", split_of(tasks, self.recipe.recipe.split))
        rows = rows.join(splits, on="prompt_id", how="left", maintain_order="left")
        self.ledger.add("version", "row", self.ledger.accounts[-1].kept, rows["split"], [TRAIN, TEST])
        parts = {name: rows.filter(pl.col("split") == name).drop("split") for name in (TRAIN, TEST)}
        return {name: part for name, part in parts.items() if name == TRAIN or part.height}

    def _draws(self, plans: Sequence[pl.DataFrame]) -> list[pl.DataFrame]:
        at = self.pins[COMPLETIONS.name]
        return [
            known_draws(self.facts, plan, block, DRAW_COLUMNS, at)
            for plan, block in zip(plans, self.recipe.blocks, strict=True)
        ]

    def _labels(self, plans: Sequence[pl.DataFrame]) -> list[pl.DataFrame]:
        rows = score_rows(self.facts, self.recipe.labellers, self.pins[SCORES.name])
        return [known_labels(rows, plan, x) for plan, x in zip(plans, self.recipe.labellers, strict=True)]

    def _pinned_few(self, table: FactTable, done: Sequence[pl.DataFrame]) -> bool:
        """Pins the table as it is after these keys were computed. True when they are few and nobody else wrote.

        Then only their facts are read again: all others are as they were.
        """
        count = sum(d.height for d in done)
        if not count:
            return True
        before = self.facts.count(table, self.pins[table.name])
        self.facts.compact(table)
        self.pins[table.name] = self.facts.heads()[table.name]
        return count <= FEW and self.facts.count(table, self.pins[table.name]) == before + count

    def _settle(self, keys: pl.DataFrame, what: str) -> None:
        missing = keys["outcome"].null_count()
        if missing and self.maker:
            raise LedgerError(
                f"{missing} of {keys.height} {what} have no fact after they were computed: no version is written"
            )
        if missing:
            raise DamageError(
                f"{missing} of {keys.height} {what} are not in the fact tables as pinned: build the recipe anew"
            )
        self.to_retry += int(keys["transient"].sum())
        self.superseded += int(keys["superseded"].sum())

    def _row_unit(self) -> str:
        return "candidate pair" if isinstance(self.recipe.recipe.select, PairBase) else "completion"

    def _named_rows(self, rows: pl.DataFrame, candidates: pl.DataFrame, tasks: pl.DataFrame) -> pl.DataFrame:
        ids = candidates["completion_id"]
        if "chosen" not in rows.columns:
            return _with_prompt_id(rows.with_columns(id=ids.gather(rows["candidate"])), tasks)
        words = [id_words(ids.gather(rows[side]).to_arrow()) for side in ("chosen", "rejected")]
        return _with_prompt_id(rows.with_columns(id=pl.Series(pl.from_arrow(row_ids(*words)))), tasks)

    def _whole(self, candidates: pl.DataFrame) -> pl.DataFrame:
        """Candidates with what is too large to carry for all of them: messages, tokens, log-probs, policy."""
        whole = candidates.join(
            self._bodies(candidates["completion_id"]), on="completion_id", how="left", maintain_order="left"
        )
        return whole.join(self._block_columns(), on="block", how="left", maintain_order="left")

    def _bodies(self, ids: pl.Series) -> pl.DataFrame:
        columns = ["id", "batch_id", "transient", "attempt", "completion", "token_ids", "behavior_logprobs"]
        found = settled(self.facts.gather(COMPLETIONS, columns, ids, self.pins[COMPLETIONS.name]))
        logps = pl.col("behavior_logprobs").list.eval(pl.element().cast(pl.Float64)).list.sum()
        known = pl.col("behavior_logprobs").is_not_null()
        return found.select("completion", "token_ids", completion_id="id", behavior_logps=pl.when(known).then(logps))

    def _block_columns(self) -> pl.DataFrame:
        blocks = self.recipe.blocks
        return pl.DataFrame(
            {
                "block": [b.number for b in blocks],
                "policy_id": [b.policy_id for b in blocks],
                "policy_version": [b.policy_version for b in blocks],
            },
            schema={"block": pl.UInt16, "policy_id": pl.String, "policy_version": pl.Int64},
        )


def _with_prompt_id(rows: pl.DataFrame, tasks: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(prompt_id=tasks["prompt_id"].gather(rows["prompt"]))
