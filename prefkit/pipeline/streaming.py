"""From a run to the stream its trainer reads: live over a policy in training, or over the rows of a version."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import polars as pl

from prefkit.errors import RecipeError
from prefkit.pipeline.live import Engines, LiveSource, Synced
from prefkit.pipeline.recipe import POLICY, BudgetConfig, Recipe, TrainConfig
from prefkit.pipeline.resolve import Resolved, placed_policy, resolved
from prefkit.pipeline.running import DATA, PROMPTS, policy_of
from prefkit.pipeline.stored import StoredSource, stored_rows
from prefkit.pipeline.training_rows import BehaviorSums, ModelSums, ReferenceSums, StoredSums
from prefkit.sampling.protocol import Sampler
from prefkit.sampling.registry import open_sampler, open_synced
from prefkit.scoring.config import ImportedScorer, PairwiseJudgeScorer
from prefkit.scoring.protocol import Comparer, Scorer
from prefkit.scoring.registry import open_comparer, open_scorer
from prefkit.shift.live import LiveReference, open_live_reference, open_tokens
from prefkit.shift.registry import Reference
from prefkit.spending import Budget
from prefkit.store.runs import Run
from prefkit.stream.protocol import Source
from prefkit.stream.ranks import Ranks, from_first, on_each

ROWS = "rows"
"""File of a run over a version: its rows as it trains on them."""
MAX_LENGTH = 1024
"""TRL's longest prompt and completion."""


@dataclass(frozen=True, slots=True)
class RunRecipe:
    """What a run goes by: the recipe that its folder holds."""

    run: Run
    recipe: Recipe
    train: TrainConfig
    folder: Path

    @classmethod
    def of(cls, run: Run) -> "RunRecipe":
        """As it was when the run began."""
        recipe = Recipe.model_validate(run.record.recipe)
        assert recipe.train is not None
        return cls(run, recipe, recipe.train, Path(run.record.folder))

    @property
    def max_length(self) -> int | None:
        """Longest prompt and completion, in tokens."""
        return cast("int | None", self.train.args.get("max_length", MAX_LENGTH))


def opened_source(asked: RunRecipe, cache: Path, ranks: Ranks) -> Source:
    """The run's source with everything it needs in memory, on each rank; `cache` remembers digests of large files."""
    if asked.train.sync_period is None:
        from_first(ranks, partial(_prepare_rows, asked))
        return on_each(ranks, lambda: StoredSource(asked.run.kept(ROWS), asked.train.seed))
    return on_each(ranks, partial(_live_source, asked, cache, ranks))


def _prepare_rows(asked: RunRecipe) -> None:
    """Writes the rows of a version as the run trains on them, where they are not there yet."""
    if not (asked.run.folder / f"{ROWS}.arrow").exists():
        pairs = cast(pl.DataFrame, pl.from_arrow(asked.run.kept(DATA)))
        tokens, reference = open_tokens(_model(asked)), _stored_reference(asked, pairs)
        asked.run.keep(ROWS, stored_rows(pairs, tokens, reference, asked.max_length, _system(asked.recipe)))


def _stored_reference(asked: RunRecipe, pairs: pl.DataFrame) -> ReferenceSums:
    """What scores the rows of a version; a model, where there is one, is gone before training begins."""
    if asked.train.reference == "behavior":
        return BehaviorSums()
    if _holds_sums(asked, pairs):
        return StoredSums()
    return ModelSums(open_live_reference(_model(asked), asked.run.record.policy_id))


def _holds_sums(asked: RunRecipe, pairs: pl.DataFrame) -> bool:
    """Whether the version was checked against this very policy, over the tokens that the run will train on."""
    check = asked.recipe.check
    return (
        "ref_chosen_logps" in pairs.columns
        and check is not None
        and check.reference == POLICY
        and check.max_length == asked.max_length
        and check.dtype == "float32"
    )


def _live_source(asked: RunRecipe, cache: Path, ranks: Ranks) -> LiveSource:
    target = resolved(asked.recipe, asked.folder, cache)
    budget = _budget(asked.recipe.budget, ranks)
    batches = asked.run.folder / "batches" / str(ranks.rank)
    anchor = _anchored(asked)
    samplers = [_sampler(asked, number, cache, budget) for number in range(len(target.blocks))]
    engines = Engines(
        samplers=samplers,
        learners={n: cast(Synced, s) for n, s in enumerate(samplers) if asked.recipe.sample[n].policy is None},
        scorers=_scorers(asked, target, cache, budget, batches),
        comparers=_comparers(asked, target, budget, batches),
        tokens=open_tokens(_model(asked)),
        reference=ModelSums(anchor) if anchor else BehaviorSums(),
        anchor=anchor,
    )
    return LiveSource(
        recipe=target,
        tasks=cast(pl.DataFrame, pl.from_arrow(asked.run.kept(PROMPTS))),
        engines=engines,
        run_id=asked.run.record.id,
        prompts=asked.train.prompts,
        seed=asked.train.seed,
        max_length=asked.max_length,
        system=_system(asked.recipe),
    )


def _budget(config: BudgetConfig | None, ranks: Ranks) -> Budget:
    """A rank's part of what the run may spend: each keeps its own accounts."""
    if config is None:
        return Budget()
    usd, tokens = config.usd, config.tokens
    return Budget(usd and usd / ranks.size, tokens and tokens // ranks.size)


def _sampler(asked: RunRecipe, number: int, cache: Path, budget: Budget) -> Sampler:
    config = asked.recipe.sample[number]
    if config.policy is None:
        policy = policy_of(asked.recipe, asked.folder)
        return open_synced(config, policy, f"{asked.run.record.id}/0")
    placed = config.model_copy(update={"policy": placed_policy(config.policy, asked.folder)})
    return open_sampler(placed, None, cache, budget)


def _scorers(asked: RunRecipe, target: Resolved, cache: Path, budget: Budget, batches: Path) -> tuple[Scorer, ...]:
    configs = [c for c in asked.recipe.score if not isinstance(c, ImportedScorer | PairwiseJudgeScorer)]
    return tuple(
        open_scorer(config, asked.folder, labeller.scorer_id, budget, cache, batches)
        for config, labeller in zip(configs, target.made, strict=True)
    )


def _comparers(asked: RunRecipe, target: Resolved, budget: Budget, batches: Path) -> tuple[Comparer, ...]:
    return tuple(open_comparer(judge.config, asked.folder, judge.scorer_id, budget, batches) for judge in target.judges)


def _anchored(asked: RunRecipe) -> LiveReference | None:
    """The reference model in memory, where the recipe keeps one."""
    if asked.train.reference == "behavior":
        return None
    return open_live_reference(_model(asked), f"{asked.run.record.id}/reference")


def _model(asked: RunRecipe) -> Reference:
    policy = policy_of(asked.recipe, asked.folder)
    return Reference(policy.model, policy.revision, trust_remote_code=policy.trust_remote_code)


def _system(recipe: Recipe) -> str | None:
    """The system message that all `sample` blocks have. Raises RecipeError where they differ: a pair has one prompt."""
    systems = {block.system for block in recipe.sample}
    if len(systems) > 1:
        raise RecipeError(
            "`sample` blocks have different `system` messages, expected one: a pair is trained with one prompt; write "
            "the messages into the prompts, or use one"
        )
    return next(iter(systems), None)
