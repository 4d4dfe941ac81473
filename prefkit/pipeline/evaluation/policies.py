"""Who is evaluated: the final model of a run, a model folder, a model of the Hub, or the start, the recipe's own."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from prefkit.errors import RecipeError
from prefkit.pipeline.recipe import Recipe
from prefkit.pipeline.training.running import policy_of, trained_prompts
from prefkit.sampling.config import PolicyConfig
from prefkit.sampling.policy import HUB_ID
from prefkit.store.runs import NAME, Run, Runs
from prefkit.store.workspace import Workspace

START = "start"
"""The recipe's own policy."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """A policy that is evaluated, or that another is compared with."""

    name: str
    """As it was asked for."""
    policy: PolicyConfig
    run: Run | None = None
    """The run whose final model it is."""


def contestant(word: str, recipe: Recipe, folder: Path, workspace: Workspace) -> Contestant:
    """Who is meant: `start`, else a run, else a folder, else a Hub id.

    Raises NotFoundError for what is none of them, RecipeError for a run without a final model.
    """
    if word == START:
        return Contestant(word, policy_of(recipe, folder))
    runs = Runs(workspace.root)
    if any(run.name == word for run in runs.all()):
        return _of_run(runs.get(word))
    if Path(word).exists():
        return Contestant(word, PolicyConfig(model=str(Path(word).resolve())))
    if NAME.match(word) and not HUB_ID.fullmatch(word):
        runs.get(word)  # tells which runs there are
    return Contestant(word, PolicyConfig(model=word))


def _of_run(run: Run) -> Contestant:
    if run.outcome is None:
        raise RecipeError(
            f"run {run.name!r} has not ended, expected its final model: go on with `prefkit train --resume {run.name}`"
        )
    trained = Recipe.model_validate(run.record.recipe).policy
    trusted = trained is not None and trained.trust_remote_code
    return Contestant(run.name, PolicyConfig(model=str(run.folder / "model"), trust_remote_code=trusted), run)


def require_unseen(who: Contestant, tasks: pl.DataFrame) -> None:
    """Raises RecipeError when the run has trained on some of these prompts: they tell nothing about others."""
    if who.run is None:
        return
    record = who.run.record
    seen = tasks.filter(pl.col("prompt_id").is_in(trained_prompts(who.run).implode())).height
    if seen:
        split = Recipe.model_validate(record.recipe).split
        raise RecipeError(
            f"run {who.name!r} trained on {seen} of the {tasks.height} prompts that the recipe holds out, expected "
            f"none: hold out what its own recipe did, with split.test {split.test:g} and split.seed {split.seed}"
        )
