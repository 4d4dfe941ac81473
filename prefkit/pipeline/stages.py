"""The stages of a build, from an import to the rows of a version, each accounted for in the ledger.

Every stage is the same move: work out the keys it needs, subtract the facts there are, compute the rest, and read the
facts again at one table version, which is then pinned. `Maker` computes what is missing; without one, the stages only
read, as of given pins: that is how a version is rebuilt, and why it is a pure function of recipe and pinned facts.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl

from prefkit.errors import DamageError, LedgerError, RecipeError
from prefkit.hygiene.outcomes import pair_outcomes
from prefkit.identity import id_words, row_ids
from prefkit.ledger import Ledger, StageAccount
from prefkit.pipeline.aligned import patched
from prefkit.pipeline.completions import DRAW_COLUMNS, IMPORTED, candidates_of, cleaned, completion_bodies, usable
from prefkit.pipeline.draws import SAMPLED, Block, drawn_now, known_draws, planned_draws
from prefkit.pipeline.imported import imported_completions, rated_candidates
from prefkit.pipeline.imports import Import, held, source_tasks
from prefkit.pipeline.labels import SCORED, Labeller, known_labels, label_ids, labelled_now, planned_labels, score_rows
from prefkit.pipeline.outcomes import Dropped
from prefkit.pipeline.prompts import KEPT, numbered, prompt_stage
from prefkit.pipeline.rating_stage import RatingStage
from prefkit.pipeline.recipe import CompletionsConfig
from prefkit.pipeline.resolve import Resolved
from prefkit.pipeline.rows import TEST, TRAIN, pair_rows, split_of, subset_rows, wide_scores, with_preferences
from prefkit.records import COMPLETIONS, IMPORTS, SCORES, FactTable
from prefkit.selection.aggregation import aggregated_score
from prefkit.selection.config import PairBase
from prefkit.selection.outcomes import RowOutcome, Selection
from prefkit.selection.strategies import select
from prefkit.store.facts import FactStore

FEW = 10_000
"""So many new keys are read again by themselves; after more, the whole table is."""
IMPORT_STAGES = {
    "prompts": ("import", "prompt"),
    "completions": ("import completions", "completion"),
    "scores": ("import scores", "score"),
    "comparisons": ("import comparisons", "comparison"),
}
"""What an import's records are booked as: stage and unit."""
IMPORTED_OUTCOMES = ("imported", "draw", "unparsable")
"""Outcomes of records that became facts."""
EMPTY_DRAWS = pl.DataFrame(
    schema={
        "prompt": pl.UInt32, "prompt_id": pl.Binary, "block": pl.UInt16, "sample_index": pl.Int32,
        "completion_id": pl.Binary, "text": pl.String, "finish_reason": pl.String, "outcome": pl.String,
    }
)  # fmt: skip


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


@dataclass(frozen=True, slots=True)
class Labelled:
    """What may be selected: numbered candidates, and what was said about them."""

    candidates: pl.DataFrame
    """With `scores` per aspect and their aggregated `score`."""
    preferences: pl.DataFrame | None
    """Per compared pair of candidates `first` < `second` one column per scorer, and `preference`."""


@dataclass
class Stages:
    """One pass through all stages. `pins` gives the table versions to read; a live pass fills it as it goes."""

    recipe: Resolved
    facts: FactStore
    imports: Sequence[Import]
    """What feeds the build; the import of its prompts comes first."""
    pins: dict[str, int]
    maker: Maker | None
    ledger: Ledger = field(default_factory=Ledger)
    dropped: Dropped = field(default_factory=Dropped)
    to_retry: int = 0
    """Keys that failed for a passing reason: the next build tries them again."""
    superseded: int = 0
    """Rows that other rows of the same key stand for."""

    def run(self) -> dict[str, pl.DataFrame]:
        """The rows of the version by split; `ledger`, `dropped` and `pins` are full afterwards."""
        tasks = self.prompts()
        labelled = self.labelled(tasks)
        selection = self.select(labelled, tasks)
        return self.split(self.rows(selection, labelled, tasks), tasks)

    def everything(self) -> pl.DataFrame:
        """Every completion that could have been selected, in the columns of a version of single completions."""
        tasks = self.prompts()
        candidates = self.labelled(tasks).candidates
        unknown = {"label": pl.lit(None, pl.Boolean), "weight": pl.lit(None, pl.Float64)}
        every = candidates.select("prompt", "candidate", **unknown)
        return subset_rows(every, tasks, self._whole(candidates))

    def labelled(self, tasks: pl.DataFrame) -> Labelled:
        """The candidates, drawn and imported, with what was said about them."""
        drawn = self.sample(tasks)
        imported = self.imported(tasks)
        completions = self.completions(drawn, imported)
        candidates = candidates_of(completions)
        places = rated_candidates(imported, completions, candidates)
        recipe = self.recipe.recipe
        ratings = RatingStage(recipe, self.facts, self.imports, self.pins, self.ledger, self.dropped, places)
        scores = self.score(candidates, tasks, ratings)
        preferences = ratings.preferences() if recipe.compares else None
        score = pl.lit(None, pl.Float64) if recipe.compares else aggregated_score(scores, recipe.aggregate)
        candidates = candidates.with_columns(score.alias("score"), scores.to_struct("scores"))
        return Labelled(candidates, preferences)

    def prompts(self) -> pl.DataFrame:
        """The tasks of the build, numbered by prompt."""
        self._book_imports()
        recipe = self.recipe.recipe
        tasks = source_tasks(self.facts, self.imports, self.pins)
        # Of a prompt that several imports bring, the tasks of the first are read.
        repeated = len(held(self.facts, self.imports, "task_ids", self.pins[IMPORTS.name])) - tasks.height
        tasks = prompt_stage(tasks, recipe.hygiene, recipe.prompts.limit)
        self.ledger.add("prompt hygiene", "task", self.ledger.kept("import") - repeated, tasks["outcome"], [KEPT])
        self.dropped.add("prompt hygiene", tasks.filter(pl.col("outcome") != KEPT).with_columns(id="task_id"))
        return numbered(tasks)

    def _book_imports(self) -> None:
        for what, (stage, unit) in IMPORT_STAGES.items():
            counts = Counter[str]()
            for done in self.imports:
                counts.update(done.outcomes.get(what, {}))
            new = sum(counts[outcome] for outcome in IMPORTED_OUTCOMES)
            if counts or what == "prompts":
                self.ledger.put(StageAccount(stage, unit, sum(counts.values()), counts, new))

    def imported(self, tasks: pl.DataFrame) -> pl.DataFrame:
        """Every completion the imports hold, with its outcome; none where the recipe asks for none."""
        config = self.recipe.recipe.imported
        at = self.pins[COMPLETIONS.name]
        ids = held(self.facts, self.imports if config else (), "completion_ids", self.pins[IMPORTS.name])
        if not (len(ids) or self.recipe.blocks):
            raise RecipeError(
                f"source {self.recipe.source!r} holds no completions and the recipe samples none, expected either: "
                "add a `sample` block, or import completions with `--prompts-from`"
            )
        rows = imported_completions(self.facts, ids, tasks, config or CompletionsConfig(), len(self.recipe.blocks), at)
        if config:
            self.ledger.add("imported completions", "completion", len(ids), rows["outcome"], [IMPORTED])
            unused = rows.filter(pl.col("outcome") != IMPORTED).with_columns(id="completion_id")
            self.dropped.add("imported completions", unused)
            self.superseded += int(rows["superseded"].sum())
        return rows

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
        if not draws:
            return EMPTY_DRAWS
        together = draws[0] if len(draws) == 1 else pl.concat(draws).sort("prompt", "block", "sample_index")
        self._settle(together, "draws")
        planned = self.ledger.kept("prompt hygiene") * sum(b.n for b in blocks)
        self.ledger.add("sample", "draw", planned, together["outcome"], [SAMPLED])
        self.dropped.add("sample", together.filter(pl.col("outcome") != SAMPLED).with_columns(id="completion_id"))
        return together

    def completions(self, drawn: pl.DataFrame, imported: pl.DataFrame) -> pl.DataFrame:
        """The completions that there are, with what hygiene says of each."""
        completions = cleaned(usable([drawn, imported]), self.recipe.recipe.hygiene)
        planned = sum(a.kept for a in self.ledger.accounts if a.stage in ("sample", "imported completions"))
        self.ledger.add("completion hygiene", "completion", planned, completions["outcome"], [KEPT])
        self.dropped.add(
            "completion hygiene", completions.filter(pl.col("outcome") != KEPT).with_columns(id="completion_id")
        )
        return completions

    def score(self, candidates: pl.DataFrame, tasks: pl.DataFrame, ratings: RatingStage) -> pl.DataFrame:
        """One Float64 column per aspect in the recipe's order, a row per candidate; null where there is no score."""
        labellers = self.recipe.made
        labels = self._made(labellers, candidates, tasks) if labellers else []
        rated, rated_outcomes = ratings.scores(candidates.height)
        outcomes = [x["outcome"] for x in labels] + rated_outcomes.get_columns()
        calls = sum(len(x.aspects) * x.repeats for x in labellers) + rated.width
        if outcomes:
            planned = self.ledger.kept("completion hygiene") * calls
            together = pl.concat([o.cast(pl.String).alias("outcome") for o in outcomes])
            self.ledger.add("score", "label", planned, together, [SCORED])
        for keys, labeller in zip(labels, labellers, strict=True):
            failed = keys.filter(pl.col("outcome") != SCORED)
            ids = label_ids(failed, labeller)
            self.dropped.add("score", _with_prompt_id(failed.with_columns(ids, detail="aspect"), tasks))
        made = wide_scores(labels, [(x.aspects, x.repeats) for x in labellers])
        known = {column.name: column for column in (*made.get_columns(), *rated.get_columns())}
        absent = pl.repeat(None, candidates.height, dtype=pl.Float64, eager=True)
        return pl.DataFrame({a: known.get(a, absent) for x in self.recipe.labellers for a in x.aspects})

    def _made(self, labellers: Sequence[Labeller], candidates: pl.DataFrame, tasks: pl.DataFrame) -> list[pl.DataFrame]:
        plans = [planned_labels(candidates, tasks, x) for x in labellers]
        labels = self._labels(plans)
        if self.maker:
            done = [self.maker.label(x, k, tasks, candidates) for x, k in zip(labellers, labels, strict=True)]
            if self._pinned_few(SCORES, done):
                now = labelled_now(self.facts, done, labellers, self.pins[SCORES.name])
                labels = [patched(k, d["place"], n) for k, d, n in zip(labels, done, now, strict=True)]
            else:
                labels = self._labels(plans)
        self._settle(pl.concat([x.select("outcome", "transient", "superseded") for x in labels]), "labels")
        return labels

    def select(self, labelled: Labelled, tasks: pl.DataFrame) -> Selection:
        """What the strategy selects, by number."""
        candidates = labelled.candidates
        columns = candidates.select(
            "prompt",
            "candidate",
            "score",
            pl.col("completion_id").bin.slice(0, 8).bin.reinterpret(dtype=pl.UInt64, endianness="little").alias("key"),
            pl.col("text").str.len_chars().cast(pl.UInt32).alias("length"),
            source=tasks["source"].gather(candidates["prompt"]),
        )
        compared = self._compared(labelled)
        selection = select(columns, self.recipe.recipe.select, prompts=tasks.height, comparisons=compared)
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

    def _compared(self, labelled: Labelled) -> pl.DataFrame | None:
        if labelled.preferences is None:
            return None
        pairs = labelled.preferences.select("preference", a="first", b="second")
        return pairs.with_columns(prompt=labelled.candidates["prompt"].gather(pairs["a"]))

    def rows(self, selection: Selection, labelled: Labelled, tasks: pl.DataFrame) -> pl.DataFrame:
        """The selected rows with their texts, tokens and scores; pairs of equal texts are dropped."""
        selected, candidates = selection.selected, labelled.candidates
        sides = ["chosen", "rejected"] if "chosen" in selected.columns else ["candidate"]
        used = pl.concat([selected.select(candidate=side) for side in sides]).unique().sort("candidate")
        texts = self._whole(candidates[used["candidate"]])
        if sides == ["candidate"]:
            return subset_rows(selected, tasks, texts)
        rows = pair_rows(selected, tasks, texts)
        if labelled.preferences is not None:
            rows = with_preferences(rows, selected, labelled.preferences)
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
        rows = score_rows(self.facts, self.recipe.made, self.pins[SCORES.name])
        return [known_labels(rows, plan, x) for plan, x in zip(plans, self.recipe.made, strict=True)]

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
        bodies = completion_bodies(self.facts, candidates["completion_id"], self.pins[COMPLETIONS.name])
        return candidates.join(bodies, on="completion_id", how="left", maintain_order="left")


def _with_prompt_id(rows: pl.DataFrame, tasks: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(prompt_id=tasks["prompt_id"].gather(rows["prompt"]))
