"""What a build would do: the plan of every stage against the facts there are. Writes nothing, not even the import.

Labels are planned for the completions there are and for those still to be drawn. Which of the latter pass hygiene is
not known before they exist, so while anything is left to draw the numbers of labels are upper bounds.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import polars as pl

from prefkit.identity import Json
from prefkit.pipeline.comparing import candidate_pairs, known_comparisons, planned_comparisons
from prefkit.pipeline.completions import DRAW_COLUMNS, candidates_of, cleaned, usable
from prefkit.pipeline.draws import known_draws, planned_draws, to_do
from prefkit.pipeline.forecast import Forecast, aspects_forecast, pairwise_forecast
from prefkit.pipeline.imported import imported_completions
from prefkit.pipeline.importing import file_job, linked_tasks, previewed
from prefkit.pipeline.imports import feeding, held, newest_import, source_tasks
from prefkit.pipeline.labels import known_labels, planned_labels, with_texts
from prefkit.pipeline.prompts import numbered, prompt_stage
from prefkit.pipeline.recipe import CompletionsConfig, Recipe
from prefkit.pipeline.resolve import Resolved, prompts_file, resolved
from prefkit.records import COMPARISONS, COMPLETIONS, IMPORTS, SCORES
from prefkit.scoring.config import AspectJudgeScorer
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
    """Of every judge with something to do."""

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
        }


def dry_run_of(recipe: Recipe, workspace: Workspace, folder: Path, retry: Collection[str] = ()) -> DryRun:
    """The work that `build` with the same arguments would do now. Raises what a build would raise at its start."""
    target = _resolved(recipe, workspace, folder)
    facts = workspace.facts
    at = facts.heads()
    imports = feeding(facts, target.source) if newest_import(facts, target.source) else ()
    tasks = numbered(prompt_stage(_tasks(target, facts, at), recipe.hygiene, recipe.prompts.limit))
    draws = [known_draws(facts, planned_draws(tasks, b), b, DRAW_COLUMNS, at[COMPLETIONS.name]) for b in target.blocks]
    missing = [to_do(keys, retry) for keys in draws]
    work = tuple(
        Work(f"{config.backend}, {block.policy_id}", keys.height, keys.height - left.height, left.height)
        for config, block, keys, left in zip(recipe.sample, target.blocks, draws, missing, strict=True)
    )
    kept = [
        keys.join(left.select("completion_id"), on="completion_id", how="anti")
        for keys, left in zip(draws, missing, strict=True)
    ]
    held_ids = held(facts, imports if recipe.imported else (), "completion_ids", at[IMPORTS.name])
    config = recipe.imported or CompletionsConfig()
    imported = imported_completions(facts, held_ids, tasks, config, len(target.blocks), at[COMPLETIONS.name])
    candidates = candidates_of(cleaned(usable([*kept, imported]), recipe.hygiene))
    undrawn = sum(w.to_do for w in work)
    labels = _labels(target, facts, tasks, candidates, undrawn, at[SCORES.name], retry)
    comparisons = _comparisons(target, facts, tasks, candidates, at[COMPARISONS.name], retry)
    told = [*labels, *comparisons]
    forecasts = tuple(forecast for _, forecast in told if forecast and forecast.calls)
    return DryRun(
        recipe.name,
        target.source,
        tasks.height,
        work,
        tuple(w for w, _ in labels),
        tuple(w for w, _ in comparisons),
        forecasts,
    )


Told: TypeAlias = tuple[Work, Forecast | None]


def _labels(
    target: Resolved,
    facts: FactStore,
    tasks: pl.DataFrame,
    candidates: pl.DataFrame,
    undrawn: int,
    at: int,
    retry: Collection[str],
) -> list[Told]:
    told: list[Told] = []
    plans = [planned_labels(candidates, tasks, labeller) for labeller in target.made]
    for keys, labeller in zip(known_labels(facts, plans, target.made, at), target.made, strict=True):
        missing = to_do(keys, retry)
        left, to_come = missing.height, undrawn * labeller.calls
        work = Work(", ".join(labeller.aspects), keys.height + to_come, keys.height - left, left + to_come)
        config = target.recipe.score[target.labellers.index(labeller)]
        forecast = None
        if isinstance(config, AspectJudgeScorer):
            requests = with_texts(missing, labeller, tasks, candidates)
            forecast = aspects_forecast(config, target.folder, labeller, requests, to_come)
        told.append((work, forecast))
    return told


def _comparisons(
    target: Resolved,
    facts: FactStore,
    tasks: pl.DataFrame,
    candidates: pl.DataFrame,
    at: int,
    retry: Collection[str],
) -> list[Told]:
    told: list[Told] = []
    pairs = candidate_pairs(candidates) if target.judges else pl.DataFrame()
    for judge in target.judges:
        keys = known_comparisons(facts, planned_comparisons(pairs, tasks, judge), judge, at)
        missing = to_do(keys, retry)
        work = Work(", ".join(judge.config.aspects), keys.height, keys.height - missing.height, missing.height)
        texts = missing.with_columns(tasks.select("messages", *judge.config.reads)[missing["prompt"]])
        told.append((work, pairwise_forecast(judge, target.folder, texts)))
    return told


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
