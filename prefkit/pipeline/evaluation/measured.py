"""One pass of an evaluation: completions of both sides drawn, scored, measured under the start, and compared.

It is the stages of a build without hygiene and selection, over held-out tasks.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from prefkit.errors import SourceError
from prefkit.pipeline.build import LocalMaker, require_means
from prefkit.pipeline.check.behind_system import store_behind
from prefkit.pipeline.check.reference_maker import LocalReference
from prefkit.pipeline.completions import candidates_of, with_bodies
from prefkit.pipeline.draws import SAMPLED
from prefkit.pipeline.evaluation.divergence import log_ratios
from prefkit.pipeline.evaluation.plan import scored_aspects
from prefkit.pipeline.evaluation.preferences import by_judges, by_score, compared, judged_pairs, matches
from prefkit.pipeline.evaluation.report import Computed
from prefkit.pipeline.evaluation.statistics import ASPECT
from prefkit.pipeline.progress import Progress
from prefkit.pipeline.prompts import KEPT
from prefkit.pipeline.publish import PINNED
from prefkit.pipeline.rating_stage import RatingStage
from prefkit.pipeline.resolve import Resolved
from prefkit.pipeline.stages import Stages
from prefkit.records import COMPLETIONS
from prefkit.sampling.protocol import FinishReason
from prefkit.selection.aggregation import aggregated_score
from prefkit.selection.config import GradedComparisons
from prefkit.spending import Budget
from prefkit.store.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything that the statistics read; see there for the columns."""

    policy: pl.DataFrame
    baseline: pl.DataFrame
    matches: pl.DataFrame
    computed: Computed

    def of_source(self, name: str) -> "Measured":
        """The same of one source."""
        own = pl.col("source") == name
        return replace(
            self,
            policy=self.policy.filter(own),
            baseline=self.baseline.filter(own),
            matches=self.matches.filter(own),
        )


@dataclass(frozen=True, slots=True)
class Pass:
    """What a pass works with; `target` is the evaluation written as a recipe."""

    target: Resolved
    tasks: pl.DataFrame
    maker: LocalMaker
    stages: Stages
    reference: LocalReference

    @classmethod
    def opened(
        cls, target: Resolved, tasks: pl.DataFrame, workspace: Workspace, progress: Progress, batches: Path
    ) -> "Pass":
        """Raises what is missing to pay judges before anything is sampled."""
        recipe, facts, cache = target.recipe, workspace.facts, workspace.policy_cache
        budget = Budget(recipe.budget.usd, recipe.budget.tokens) if recipe.budget else Budget()
        require_means(recipe, budget, batches)
        maker = LocalMaker(target, facts, cache, progress, (), budget, batches)
        heads = facts.heads()
        stages = Stages(target, facts, (), {table.name: heads[table.name] for table in PINNED}, maker)
        stages.ledger.add("prompt hygiene", "task", tasks.height, pl.repeat(KEPT, tasks.height, eager=True), [KEPT])
        assert target.yardstick is not None
        return cls(target, tasks, maker, stages, LocalReference(target.yardstick, facts, cache, progress))

    def measured(self) -> Measured:
        """Computes what is missing. Raises SourceError when no draw gave a completion."""
        draws = self.stages.sample(self.tasks)
        candidates = self._measured(self._scored(self._candidates(draws)))
        rows = _rows(draws, candidates, self.tasks)
        last = len(self.target.blocks) - 1
        policy, baseline = (rows.filter(pl.col("block") == block) for block in (0, last))
        pairs, retried = self._decided(matches(policy, baseline), candidates)
        computed = Computed(
            drawn=self.maker.drawn,
            labelled=self.maker.labelled,
            compared=self.maker.compared,
            logps=self.reference.scored,
            to_retry=self.stages.to_retry + retried,
            spent=self.maker.budget.spent,
        )
        return Measured(policy, baseline, pairs, computed)

    def _candidates(self, draws: pl.DataFrame) -> pl.DataFrame:
        """The completions that there are, with their tokens and log-probs."""
        candidates = candidates_of(self.stages.completions(draws, self.stages.imported(self.tasks)))
        if candidates.is_empty():
            kinds = ", ".join(f"{count} {kind}" for kind, count in draws["outcome"].value_counts().iter_rows())
            raise SourceError(f"none of {draws.height} draws gave a completion ({kinds}), expected some to evaluate")
        return with_bodies(self.stages.facts, candidates, self.stages.pins[COMPLETIONS.name])

    def _scored(self, candidates: pl.DataFrame) -> pl.DataFrame:
        """The candidates with a column for each aspect, and `reward`: null where pairs are judged instead."""
        recipe = self.target.recipe
        aspects = list(scored_aspects(recipe))
        scores = self.stages.score(candidates, self.tasks, self._ratings).select(aspects)
        reward = pl.lit(None, pl.Float64) if recipe.compares else aggregated_score(scores, recipe.aggregate)
        return candidates.with_columns(
            reward.alias("reward"), **{f"{ASPECT}{aspect}": scores[aspect] for aspect in aspects}
        )

    def _measured(self, candidates: pl.DataFrame) -> pl.DataFrame:
        """The candidates with their `log_ratio`: of the policy's, and of a baseline's that is not the start."""
        moved = (candidates["block"] == 0) | (candidates["policy_id"] != self.reference.yardstick.model_id)
        asked = candidates.filter(moved)
        system = self.target.recipe.sample[0].system
        ratios = log_ratios(asked, store_behind(self.stages.facts, self.tasks["prompt_id"], system), self.reference)
        found = asked.select("candidate", ratios)
        return candidates.join(found, on="candidate", how="left", maintain_order="left")

    def _decided(self, pairs: pl.DataFrame, candidates: pl.DataFrame) -> tuple[pl.DataFrame, int]:
        """The matches with who wins, and how many comparisons are to be tried again."""
        select = self.target.recipe.select
        if not isinstance(select, GradedComparisons):
            return by_score(pairs), 0
        asked = judged_pairs(candidates, len(self.target.blocks))
        known = compared(self.target.judges, asked, self.tasks, self.stages.facts, self.maker)
        preferences = self._ratings.preferences(known)
        return by_judges(pairs, preferences, select.tie_band), sum(int(keys["transient"].sum()) for keys in known)

    @property
    def _ratings(self) -> RatingStage:
        """Of no imported scorer: an evaluation has none."""
        stages = self.stages
        return RatingStage(
            self.target.recipe, stages.facts, (), stages.pins, stages.ledger, stages.dropped, pl.DataFrame()
        )


def _rows(draws: pl.DataFrame, candidates: pl.DataFrame, tasks: pl.DataFrame) -> pl.DataFrame:
    """Every draw in the columns that the statistics read, with `block`, `candidate`, `text` and `source`."""
    aspects = [name for name in candidates.columns if name.startswith(ASPECT)]
    unlabelled = pl.any_horizontal([pl.col(name).is_null() for name in aspects] or [pl.lit(value=False)])
    known = candidates.select(
        "completion_id", "candidate", "reward", "log_ratio", *aspects,
        tokens=pl.col("token_ids").list.len().cast(pl.Int64), unlabelled=unlabelled.cast(pl.Float64),
    )  # fmt: skip
    sampled = pl.col("outcome") == SAMPLED
    cut = pl.col("finish_reason") == str(FinishReason.LENGTH)
    rows = draws.select(
        "prompt", "block", "completion_id", "text",
        failed=(~sampled).cast(pl.Float64), cut=pl.when(sampled).then(cut.cast(pl.Float64)),
    ).join(known, on="completion_id", how="left", maintain_order="left")  # fmt: skip
    return rows.with_columns(source=tasks["source"].gather(rows["prompt"]))
