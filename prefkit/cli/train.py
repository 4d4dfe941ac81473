"""`prefkit train`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from prefkit.cli.console import count, note, say, say_json
from prefkit.cli.options import AsJson, WorkspacePath, opened
from prefkit.cli.training import trainers
from prefkit.errors import RecipeError
from prefkit.pipeline.recipe_file import load_recipe
from prefkit.pipeline.training.running import RunStart


def train(
    recipe: Path | None = None,
    /,
    *,
    set_: Annotated[list[str] | None, Parameter(name="--set")] = None,
    data: str | None = None,
    run: str | None = None,
    resume: str | None = None,
    json: AsJson = False,
    workspace: WorkspacePath = None,
) -> None:
    """Train the recipe's policy as its `train` block says: on a version, or sampling as it learns.

    Parameters
    ----------
    recipe
        A recipe file.
    set_
        Change a value of the recipe, as in `--set train.sync_period=10`; may be repeated.
    data
        The version to train on. By default the newest of the recipe's name.
    run
        A name for the run. By default the recipe's name and a number.
    resume
        Go on with this run, from its newest complete checkpoint.
    json
        Print JSON.
    """
    if (recipe is None) == (resume is None):
        raise RecipeError("train got no recipe, or one beside --resume, expected either a recipe file or --resume RUN")
    running, target = trainers(), opened(workspace)
    if resume is not None:
        done = running.resume(resume, target, note)
    else:
        assert recipe is not None
        start = RunStart(load_recipe(recipe, set_ or ()), recipe.resolve().parent, data, run, running.reproducible())
        done = running.train(start, target, note)
    outcome = done.outcome
    if json:
        told = {"run": done.name, "steps": outcome.steps, "weights": outcome.weights, "metrics": dict(outcome.metrics)}
        say_json(told)
        return
    since = f", from step {done.resumed_from}" if done.resumed_from else ""
    say(f"{done.name}: {count(outcome.steps)} steps{since}; the model is in {done.folder / 'model'}")
