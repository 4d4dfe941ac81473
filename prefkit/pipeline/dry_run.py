"""What a build would do: the plan of every stage against the facts there are. Writes nothing, not even the import.

Labels and comparisons are planned for the completions there are and for those still to be drawn. Which of the latter
pass hygiene is not known before they exist, so while anything is left to draw those numbers are upper bounds.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import polars as pl

from prefkit.identity import Json
from prefkit.pipeline.check.plan import CheckWork, check_work
from prefkit.pipeline.comparing import (
    Judge,
    baseline_of,
    candidate_pairs,
    known_comparisons,
    pair_count,
    planned_comparisons,
)
from prefkit.pipeline.completions import DRAW_COLUMNS, candidates_of, cleaned, usable
from prefkit.pipeline.draws import known_draws, planned_draws, to_do
from prefkit.pipeline.forecast import Forecast, StandIn, aspects_forecast, draws_forecast, pairwise_forecast
from prefkit.pipeline.imports.candidates import imported_completions
from prefkit.pipeline.imports.content import feeding, held, newest_import, source_tasks
from prefkit.pipeline.imports.importing import file_job, linked_tasks, previewed
from prefkit.pipeline.labels import known_labels, planned_labels, with_texts
from prefkit.pipeline.prompts import numbered, prompt_stage
from prefkit.pipeline.recipe import CompletionsConfig, Recipe
from prefkit.pipeline.resolve import Resolved, prompts_file, resolved
from prefkit.records import COMPARISONS, COMPLETIONS, IMPORTS, SCORES
from prefkit.sampling.config import EndpointSampler
from prefkit.scoring.config import AspectJudgeScorer, PairwiseJudgeScorer
from prefkit.store.facts import FactStore
from prefkit.store.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Work:
    """One sample block or scorer: how many keys the recipe needs, how many are facts, how many would be computed."""

    what: str
    planned: int
    have: int
    to_do: int

    def to_json(self) -> dict[str, Json]:
        """As plain data."""
        return {"what": self.what, "planned": self.planned, "have": self.have, "to_do": self.to_do}


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a build would draw and label."""

    name: str
    source: str
    prompts: int
    draws: tuple[Work, ...]
    labels: tuple[Work, ...]
    comparisons: tuple[Work, ...] = ()
    forecasts: tuple[Forecast, ...] = ()
    """Of every judge, and of every `sample` block behind an endpoint, with something to do."""
    checks: tuple[Work, ...] = ()
    checks_are_upper_bound: bool = False
    """Whether it is not known yet which rows will be chosen."""

    @property
    def labels_are_upper_bound(self) -> bool:
        """Whether completions are still to be drawn, of which hygiene may drop some."""
        return any(d.to_do for d in self.draws)

    def to_json(self) -> dict[str, Json]:
        """As plain data."""
        return {
            "name": self.name,
            "source": self.source,
            "prompts": self.prompts,
            "draws": [d.to_json() for d in self.draws],
            "labels": [x.to_json() for x in self.labels],
            "comparisons": [x.to_json() for x in self.comparisons],
            "forecasts": [x.to_json() for x in self.forecasts],
            "labels_are_upper_bound": self.labels_are_upper_bound,
            "checks": [x.to_json() for x in self.checks],
            "checks_are_upper_bound": self.checks_are_upper_bound,
        }


def dry_run_of(recipe: Recipe, workspace: Workspace, folder: Path, retry: Collection[str] = ()) -> DryRun:
    """The work that `build` with the same arguments would do now. Raises what a build would raise at its start."""
    plan = _planned(_resolved(recipe, workspace, folder), workspace.facts, retry)
    labels, comparisons = plan.labels(), plan.comparisons()
    told = [*plan.sampling(), *(forecast for _, forecast in (*labels, *comparisons) if forecast)]
    left = sum(work.to_do for work in (*plan.work(), *(work for work, _ in (*labels, *comparisons))))
    check = plan.check(complete=not left)
    return DryRun(
        recipe.name,
        plan.target.source,
        plan.tasks.height,
        plan.work(),
        tuple(work for work, _ in labels),
        tuple(work for work, _ in comparisons),
        tuple(forecast for forecast in told if forecast.calls),
        _check_works(check) if check else (),
        check is not None and check.is_upper_bound,
    )


def _check_works(check: CheckWork) -> tuple[Work, ...]:
    told = (("reference samples", check.samples), ("log-probs", check.logps))
    return tuple(Work(name, planned, planned - left, left) for name, (planned, left) in told)


Told: TypeAlias = tuple[Work, Forecast | None]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What there is of a build, and per `sample` block the draws that are `missing`."""

    target: Resolved
    facts: FactStore
    at: Mapping[str, int]
    retry: Collection[str]
    tasks: pl.DataFrame
    draws: Sequence[pl.DataFrame]
    missing: Sequence[pl.DataFrame]
    imported: pl.DataFrame
    completions: pl.DataFrame
    candidates: pl.DataFrame

    @property
    def stand_in(self) -> StandIn:
        return StandIn.of(self.tasks, self.candidates["text"], self.target.recipe.sample)

    def work(self) -> tuple[Work, ...]:
        both = zip(self.target.recipe.sample, self.target.blocks, strict=True)
        names = [f"{config.backend}, {block.policy_id}" for config, block in both]
        sizes = [(keys.height, left.height) for keys, left in zip(self.draws, self.missing, strict=True)]
        return tuple(Work(name, keys, keys - left, left) for name, (keys, left) in zip(names, sizes, strict=True))

    def sampling(self) -> Iterator[Forecast]:
        recipe = self.target.recipe
        for config, left in zip(recipe.sample, self.missing, strict=True):
            policy = config.policy or recipe.policy
            if isinstance(config, EndpointSampler) and policy:
                messages = self.tasks["messages"].gather(left["prompt"])
                yield draws_forecast(config, policy.model, messages, self.stand_in)

    def check(self, complete: bool) -> CheckWork | None:
        if self.target.yardstick is None:
            return None
        undrawn = sum(left.height for left in self.missing)
        there = (self.tasks, self.candidates)
        return check_work(
            self.target, self.target.yardstick, self.facts, *there, undrawn, complete=complete, retry=self.retry
        )

    def labels(self) -> list[Told]:
        told: list[Told] = []
        undrawn = sum(left.height for left in self.missing)
        made = self.target.made
        plans = [planned_labels(self.candidates, self.tasks, labeller) for labeller in made]
        for keys, labeller in zip(known_labels(self.facts, plans, made, self.at[SCORES.name]), made, strict=True):
            left, to_come = to_do(keys, self.retry), undrawn * labeller.calls
            have = keys.height - left.height
            work = Work(", ".join(labeller.aspects), keys.height + to_come, have, left.height + to_come)
            config = self.target.recipe.score[self.target.labellers.index(labeller)]
            forecast = None
            if isinstance(config, AspectJudgeScorer):
                texts = with_texts(left, labeller, self.tasks, self.candidates)
                forecast = aspects_forecast(config, self.target.folder, labeller, texts, to_come, self.stand_in)
            told.append((work, forecast))
        return told

    def comparisons(self) -> list[Told]:
        judges = self.target.judges
        pairs = candidate_pairs(self.candidates) if judges else pl.DataFrame()
        return [self._compared(judge, pairs) for judge in judges]

    def _compared(self, judge: Judge, pairs: pl.DataFrame) -> Told:
        config = judge.config
        baseline = baseline_of(config, self.imported, self.completions, self.candidates)
        keys = planned_comparisons(pairs, self.tasks, judge, baseline)
        keys = known_comparisons(self.facts, keys, judge, self.at[COMPARISONS.name])
        left = to_do(keys, self.retry)
        prompts = pl.concat([self.candidates["prompt"], *(draws["prompt"] for draws in self.missing)])
        marked = None if baseline is None else pl.concat([baseline, self._of_the_baseline(config)])
        planned = pair_count(prompts, marked) * config.calls_per_pair
        have = keys.height - left.height
        work = Work(", ".join(config.aspects), planned, have, planned - have)
        texts = left.with_columns(self.tasks.select("messages", *config.reads)[left["prompt"]])
        folder, more = self.target.folder, planned - keys.height
        return work, pairwise_forecast(judge, folder, texts, more, self.stand_in)

    def _of_the_baseline(self, config: PairwiseJudgeScorer) -> pl.Series:
        """Per missing draw, in the order of blocks, whether it is one of the judge's baseline."""
        marks = [
            pl.repeat(block.number == config.against, left.height, eager=True)
            for block, left in zip(self.target.blocks, self.missing, strict=True)
        ]
        return pl.concat([pl.Series("is_baseline", [], pl.Boolean), *marks])


def _planned(target: Resolved, facts: FactStore, retry: Collection[str]) -> _Plan:
    recipe, at = target.recipe, facts.heads()
    imports = feeding(facts, target.source) if newest_import(facts, target.source) else ()
    tasks = numbered(prompt_stage(_tasks(target, facts, at), recipe.hygiene, recipe.prompts.limit))
    draws = [known_draws(facts, planned_draws(tasks, b), b, DRAW_COLUMNS, at[COMPLETIONS.name]) for b in target.blocks]
    missing = [to_do(keys, retry) for keys in draws]
    kept = [
        keys.join(left.select("completion_id"), on="completion_id", how="anti")
        for keys, left in zip(draws, missing, strict=True)
    ]
    held_ids = held(facts, imports if recipe.imported else (), "completion_ids", at[IMPORTS.name])
    config = recipe.imported or CompletionsConfig()
    imported = imported_completions(facts, held_ids, tasks, config, len(target.blocks), at[COMPLETIONS.name])
    completions = cleaned(usable([*kept, imported]), recipe.hygiene)
    candidates = candidates_of(completions)
    return _Plan(target, facts, at, retry, tasks, draws, missing, imported, completions, candidates)


def _resolved(recipe: Recipe, workspace: Workspace, folder: Path) -> Resolved:
    """Resolved with the digests of model files that are remembered, remembering none."""
    with TemporaryDirectory() as scratch:
        cache = Path(scratch) / workspace.policy_cache.name
        if workspace.policy_cache.exists():
            cache.write_bytes(workspace.policy_cache.read_bytes())
        return resolved(recipe, folder, cache)


def _tasks(target: Resolved, facts: FactStore, at: Mapping[str, int]) -> pl.DataFrame:
    """The tasks as a build would read them back after importing."""
    prompts = target.recipe.prompts
    if prompts.imported:
        return source_tasks(facts, feeding(facts, prompts.imported), at)
    path = prompts_file(target.recipe, target.folder)
    mapping = {str(ours): theirs for ours, theirs in prompts.map.items()}
    return linked_tasks(previewed(None, file_job(path, "prompts", mapping, target.source)))
