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
from prefkit.identity import Json
from prefkit.ledger import Ledger, StageAccount
from prefkit.pipeline.aligned import patched
from prefkit.pipeline.check.measuring import ReferenceMaker
from prefkit.pipeline.check.stage import CheckStage
from prefkit.pipeline.choosing import Choosing, Labelled
from prefkit.pipeline.comparing import (
    Judge,
    baseline_of,
    candidate_pairs,
    judge_report,
    known_comparisons,
    pair_count,
    planned_comparisons,
)
from prefkit.pipeline.completions import DRAW_COLUMNS, IMPORTED, candidates_of, cleaned, usable, with_bodies
from prefkit.pipeline.draws import SAMPLED, Block, drawn_now, known_draws, planned_draws
from prefkit.pipeline.imports.candidates import imported_completions, rated_candidates
from prefkit.pipeline.imports.content import Import, held, source_tasks
from prefkit.pipeline.labels import SCORED, Labeller, known_labels, label_ids, labelled_now, planned_labels
from prefkit.pipeline.outcomes import Dropped, with_prompt_id
from prefkit.pipeline.prompt_shares import in_share
from prefkit.pipeline.prompts import KEPT, numbered, prompt_stage
from prefkit.pipeline.rating_stage import RatingStage
from prefkit.pipeline.ratings import RATED
from prefkit.pipeline.recipe import CompletionsConfig
from prefkit.pipeline.resolve import Resolved
from prefkit.pipeline.rows import subset_rows, wide_scores
from prefkit.records import COMPARISONS, COMPLETIONS, IMPORTS, SCORES, FactTable
from prefkit.selection.aggregation import aggregated_score
from prefkit.sources.outcomes import ImportOutcome
from prefkit.store.facts import FactStore
from prefkit.store.manifest import JudgeReport

FEW = 10_000
"""So many new keys are read again by themselves; after more, the whole table is."""
IMPORT_STAGES = {
    "prompts": ("import", "prompt"),
    "completions": ("import completions", "completion"),
    "scores": ("import scores", "score"),
    "comparisons": ("import comparisons", "comparison"),
}
"""What an import's records are booked as: stage and unit."""
IMPORTED_OUTCOMES = (ImportOutcome.IMPORTED, ImportOutcome.DRAW, ImportOutcome.UNPARSABLE)
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

    def compare(self, judge: Judge, keys: pl.DataFrame, tasks: pl.DataFrame) -> pl.DataFrame:
        """Compares what is missing of a judge's keys and returns those keys; each has one more row of facts."""
        ...


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
    judges: list[JudgeReport] = field(default_factory=list[JudgeReport])
    """What the pairwise judges prefer besides quality."""
    parents: tuple[str, ...] = ()
    """The versions that this one goes back to."""
    reference: ReferenceMaker | None = None
    """Computes what the check misses, where there is a maker."""
    shift: dict[str, Json] | None = None
    """What the check says."""
    overtaken: bool = False
    """Whether somebody else stored completions between the draws and the check: then the pass is to be made again."""

    def run(self) -> dict[str, pl.DataFrame]:
        """The rows of the version by split; `ledger`, `dropped` and `pins` are full afterwards."""
        tasks = self.prompts()
        return self._choosing().split(self.checked(self.chosen(tasks)), tasks)

    def chosen(self, tasks: pl.DataFrame) -> pl.DataFrame:
        """The rows that a check would see, of these prompts."""
        return self._choosing().rows(self.labelled(tasks), tasks)

    def checked(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows that the recipe's check keeps: all of them without one."""
        yardstick = self.recipe.yardstick
        if yardstick is None or rows.is_empty():
            return rows
        stage = CheckStage(yardstick, self.facts, self.pins, self.ledger, self.dropped, self.reference)
        rows, told, found = stage.checked(rows, self.recipe.recipe.kind)
        self.shift = told.to_content() if told else None
        self.overtaken = found.overtaken
        self._settle(found.draws, "samples of the reference")
        return rows

    def everything(self) -> pl.DataFrame:
        """Every completion that could have been selected, in the columns of a version of single completions."""
        tasks = self.prompts()
        candidates = self.labelled(tasks).candidates
        unknown = {"label": pl.lit(None, pl.Boolean), "weight": pl.lit(None, pl.Float64)}
        every = candidates.select("prompt", "candidate", **unknown)
        bodies = with_bodies(self.facts, candidates, self.pins[COMPLETIONS.name])
        return subset_rows(every, tasks, bodies)

    def labelled(self, tasks: pl.DataFrame) -> Labelled:
        """The candidates, drawn and imported, with what was said about them."""
        drawn = self.sample(tasks)
        imported = self.imported(tasks)
        completions = self.completions(drawn, imported)
        candidates = candidates_of(completions)
        baselines = self.baselines(imported, completions, candidates)
        places = rated_candidates(imported, completions, candidates)
        recipe = self.recipe.recipe
        ratings = RatingStage(recipe, self.facts, self.imports, self.pins, self.ledger, self.dropped, places)
        scores = self.score(candidates, tasks, ratings)
        judged = self.compare(candidates, tasks, baselines) if recipe.compares else []
        preferences = ratings.preferences(judged) if recipe.compares else None
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
        left_out = [int((~in_share(tasks["prompt_id"], b.prompt_share)).sum()) for b in blocks]
        kept = self.ledger.kept("prompt hygiene")
        planned = sum(b.n * (kept - out) for b, out in zip(blocks, left_out, strict=True))
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
            together = pl.concat([o.cast(pl.Categorical).alias("outcome") for o in outcomes])
            self.ledger.add("score", "label", planned, together, [SCORED])
        for keys, labeller in zip(labels, labellers, strict=True):
            failed = keys.filter(pl.col("outcome") != SCORED)
            ids = label_ids(failed, labeller)
            self.dropped.add("score", with_prompt_id(failed.with_columns(ids, detail="aspect"), tasks))
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

    def baselines(
        self, imported: pl.DataFrame, completions: pl.DataFrame, candidates: pl.DataFrame
    ) -> list[pl.Series | None]:
        """Per pairwise judge which candidates are its baseline's; None where it compares all pairs."""
        return [baseline_of(judge.config, imported, completions, candidates) for judge in self.recipe.judges]

    def compare(
        self, candidates: pl.DataFrame, tasks: pl.DataFrame, baselines: Sequence[pl.Series | None]
    ) -> list[pl.DataFrame]:
        """Per pairwise judge every planned comparison with its outcome and, where there is one, its preference."""
        judges = self.recipe.judges
        if not judges:
            return []
        pairs = candidate_pairs(candidates)
        plans = [planned_comparisons(pairs, tasks, j, b) for j, b in zip(judges, baselines, strict=True)]
        if self.maker:
            at = self.pins[COMPARISONS.name]
            known = [known_comparisons(self.facts, p, j, at) for p, j in zip(plans, judges, strict=True)]
            done = [self.maker.compare(j, k, tasks) for j, k in zip(judges, known, strict=True)]
            self._pinned_few(COMPARISONS, done)
        at = self.pins[COMPARISONS.name]
        known = [known_comparisons(self.facts, p, j, at) for p, j in zip(plans, judges, strict=True)]
        together = pl.concat([k.select("id", "prompt", "aspect", "outcome", "transient", "superseded") for k in known])
        self._settle(together, "comparisons")
        planned = sum(
            pair_count(candidates["prompt"], baseline) * judge.config.calls_per_pair
            for judge, baseline in zip(judges, baselines, strict=True)
        )
        self.ledger.add("compare", "comparison", planned, together["outcome"], [RATED])
        failed = together.filter(pl.col("outcome") != RATED)
        self.dropped.add("compare", with_prompt_id(failed.with_columns(detail="aspect"), tasks))
        self.judges = [judge_report(judge, keys) for judge, keys in zip(judges, known, strict=True)]
        return known

    def _choosing(self) -> Choosing:
        return Choosing(self.recipe.recipe, self.facts, self.pins, self.ledger, self.dropped)

    def _draws(self, plans: Sequence[pl.DataFrame]) -> list[pl.DataFrame]:
        at = self.pins[COMPLETIONS.name]
        return [
            known_draws(self.facts, plan, block, DRAW_COLUMNS, at)
            for plan, block in zip(plans, self.recipe.blocks, strict=True)
        ]

    def _labels(self, plans: Sequence[pl.DataFrame]) -> list[pl.DataFrame]:
        return known_labels(self.facts, plans, self.recipe.made, self.pins[SCORES.name])

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
