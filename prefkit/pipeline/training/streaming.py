"""From a run to the sources of its stream: live over a policy in training, the rows of a version, or a mix of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import polars as pl

from prefkit.pipeline.check.behind_system import system_of
from prefkit.pipeline.recipe import BudgetConfig, Recipe, TrainConfig
from prefkit.pipeline.resolve import Resolved, placed_policy, resolved
from prefkit.pipeline.training.live import Engines, LiveSource, Synced
from prefkit.pipeline.training.mixes import LIVE, phases_of, sources_of
from prefkit.pipeline.training.rows import BehaviorSums, ModelSums, ReferenceSums, StoredSums
from prefkit.pipeline.training.running import DATA, PROMPTS, data_file, max_length_of, policy_of
from prefkit.pipeline.training.stored import StoredSource, stored_rows
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
from prefkit.stream.sources import Sources

ROWS = "rows"
"""File of a run over a version: its rows as it trains on them."""


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
        return max_length_of(self.train)


def opened_sources(asked: RunRecipe, cache: Path, ranks: Ranks) -> Sources:
    """The run's sources with everything they need in memory, on each rank; `cache` remembers digests of large files."""
    if asked.train.mix:
        versions = [name for name in sources_of(asked.train) if name != LIVE]
        from_first(ranks, partial(_prepare_mixed, asked, versions))
        return on_each(ranks, partial(_mixed_sources, asked, versions, cache, ranks))
    if asked.train.sync_period is None:
        from_first(ranks, partial(_prepare_rows, asked))
        return Sources.only(on_each(ranks, partial(_stored_source, asked, ROWS)))
    return Sources.only(on_each(ranks, partial(_live_source, asked, cache, ranks)))


def _mixed_sources(asked: RunRecipe, versions: Sequence[str], cache: Path, ranks: Ranks) -> Sources:
    sources: dict[str, Source] = {name: _stored_source(asked, _rows_file(name)) for name in versions}
    if asked.train.sync_period is not None:
        sources[LIVE] = _live_source(asked, cache, ranks)
    return Sources(sources, phases_of(asked.train))


def _stored_source(asked: RunRecipe, file: str) -> StoredSource:
    return StoredSource(asked.run.kept(file), asked.train.seed)


def _rows_file(version: str) -> str:
    return f"{ROWS}-{version}"


def _prepare_rows(asked: RunRecipe) -> None:
    """Writes the rows of a version as the run trains on them, where they are not there yet."""
    if _is_missing(asked, ROWS):
        pairs = cast(pl.DataFrame, pl.from_arrow(asked.run.kept(DATA)))
        _write_rows(asked, ROWS, pairs, StoredSums() if _holds_sums(asked, pairs) else _reference_sums(asked))


def _prepare_mixed(asked: RunRecipe, versions: Sequence[str]) -> None:
    """The same for the versions of a mix. Their own sums may be of any reference, so none is taken from them."""
    if missing := [name for name in versions if _is_missing(asked, _rows_file(name))]:
        sums = _reference_sums(asked)
        for name in missing:
            pairs = cast(pl.DataFrame, pl.from_arrow(asked.run.kept(data_file(name))))
            _write_rows(asked, _rows_file(name), pairs, sums)


def _is_missing(asked: RunRecipe, file: str) -> bool:
    return not (asked.run.folder / f"{file}.arrow").exists()


def _write_rows(asked: RunRecipe, file: str, pairs: pl.DataFrame, sums: ReferenceSums) -> None:
    rows = stored_rows(pairs, open_tokens(_model(asked)), sums, asked.max_length, system_of(asked.recipe))
    asked.run.keep(file, rows)


def _reference_sums(asked: RunRecipe) -> ReferenceSums:
    """What scores the rows of a version; a model, where there is one, is gone before training begins."""
    if asked.train.reference == "behavior":
        return BehaviorSums()
    return ModelSums(open_live_reference(_model(asked), asked.run.record.policy_id))


def _holds_sums(asked: RunRecipe, pairs: pl.DataFrame) -> bool:
    """Whether the rows came with the sums of the run's own reference: others were left out at its start."""
    return asked.train.reference != "behavior" and "ref_chosen_logps" in pairs.columns


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
        system=system_of(asked.recipe),
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
