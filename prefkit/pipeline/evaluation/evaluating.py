"""`eval`: a policy against a baseline on the prompts that a recipe holds out, by the recipe's own scorers.

Completions, scores, comparisons and log-probs are facts like those of a build, so what is known is not computed again;
nothing else is written, but a line in the folder of the run whose final model is evaluated.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from prefkit.errors import RecipeError
from prefkit.pipeline.build import record_configs
from prefkit.pipeline.evaluation.measured import Measured, Pass
from prefkit.pipeline.evaluation.plan import evaluation_recipe, left_out, plain, scored_aspects
from prefkit.pipeline.evaluation.policies import START, Contestant, contestant, require_unseen
from prefkit.pipeline.evaluation.report import JUDGES, SCORES, Evaluation, Who
from prefkit.pipeline.evaluation.statistics import Scope, scope
from prefkit.pipeline.progress import Progress
from prefkit.pipeline.recipe import Recipe
from prefkit.pipeline.resolve import Resolved, resolved
from prefkit.pipeline.rows import TEST
from prefkit.pipeline.training.running import split_tasks
from prefkit.sampling.policy import policy_id
from prefkit.shift.bootstrap import Bootstrap
from prefkit.store.files import disk_trouble, fsync_file
from prefkit.store.runs import Run
from prefkit.store.workspace import Workspace

EVALUATIONS = "evaluations.jsonl"
"""File of a run: a line for each evaluation of its final model."""


@dataclass(frozen=True, slots=True)
class EvaluationAsked:
    """What is to be evaluated; relative paths of the recipe start from `folder`."""

    recipe: Recipe
    folder: Path
    policy: str
    """A run, a folder, a Hub id, or `start`."""
    against: str = START
    """The baseline, likewise."""
    n: int = 4
    """Completions per prompt, of each."""
    limit: int | None = None
    """Only so many of the held-out prompts, always the same ones."""


def evaluate(asked: EvaluationAsked, workspace: Workspace, progress: Progress) -> Evaluation:
    """Compares the two. Raises RecipeError, NotFoundError or SourceError for what cannot be evaluated, in one line.

    Whatever was computed before an error or a crash is kept.
    """
    sides = [contestant(word, asked.recipe, asked.folder, workspace) for word in (asked.policy, asked.against)]
    cache = workspace.policy_cache
    ids = [policy_id(side.policy.model, cache, side.policy.revision) for side in sides]
    # The same weights twice are one policy: its completions stand on both sides.
    policies = [side.policy for side in (sides if ids[0] != ids[1] else sides[:1])]
    target = resolved(evaluation_recipe(asked.recipe, policies, asked.n), asked.folder, cache)
    name = f"{asked.recipe.name}-eval-{ids[0][-8:]}-{ids[1][-8:]}"
    with workspace.building(name):
        tasks = _held_out(asked, target, sides, workspace)
        record_configs(target, workspace.facts, cache)
        measured = Pass.opened(target, tasks, workspace, progress, workspace.batches(name)).measured()
    both = [Who(side.name, identity) for side, identity in zip(sides, ids, strict=True)]
    evaluation = _evaluation(asked, target, both, measured)
    if run := sides[0].run:
        _note(run, evaluation)
    return evaluation


def _held_out(
    asked: EvaluationAsked, target: Resolved, sides: Sequence[Contestant], workspace: Workspace
) -> pl.DataFrame:
    """The held-out tasks, numbered, of which no run has seen any."""
    tasks = split_tasks(replace(target, recipe=asked.recipe), workspace, TEST)
    if tasks.is_empty():
        raise RecipeError(
            f"recipe {asked.recipe.name} holds no prompt out, expected a test split: set `split.test`, as in 0.1, "
            "before it trains"
        )
    for side in sides:
        require_unseen(side, tasks)
    tasks = tasks if asked.limit is None else tasks.head(asked.limit)
    return tasks.drop("prompt").with_row_index("prompt")


def _evaluation(asked: EvaluationAsked, target: Resolved, sides: Sequence[Who], measured: Measured) -> Evaluation:
    bootstrap = Bootstrap()
    block = target.recipe.sample[0]
    shares = [aspect for aspect, rule in scored_aspects(target.recipe).items() if rule]
    return Evaluation(
        recipe=asked.recipe.name,
        policy=sides[0],
        baseline=sides[1],
        held_out=measured.policy["prompt"].n_unique(),
        n=asked.n,
        sampling=block.identity_values(),
        plain=plain(block),
        decided_by=JUDGES if target.judges else SCORES,
        accuracies=shares,
        left_out=left_out(asked.recipe),
        overall=scope(measured.policy, measured.baseline, measured.matches, shares, bootstrap),
        sources=_by_source(measured, shares, bootstrap),
        computed=measured.computed,
        bootstrap=bootstrap,
    )


def _by_source(measured: Measured, shares: Sequence[str], bootstrap: Bootstrap) -> dict[str, Scope]:
    """The same for each source; of a single one the overall numbers say it all."""
    names = measured.policy["source"].unique().sort().to_list()
    if len(names) < 2:
        return {}
    own = {name: measured.of_source(name) for name in names}
    return {name: scope(m.policy, m.baseline, m.matches, shares, bootstrap) for name, m in own.items()}


def _note(run: Run, evaluation: Evaluation) -> None:
    """Adds the evaluation to the run's own, durably."""
    told = {"created": datetime.now(UTC).isoformat(timespec="seconds"), **evaluation.to_json()}
    path = run.folder / EVALUATIONS
    with disk_trouble(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(told, ensure_ascii=False, allow_nan=False) + "\n")
    fsync_file(path)
