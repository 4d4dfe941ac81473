"""`prefkit replay`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from prefkit.cli.console import count, note, say, say_json
from prefkit.cli.options import AsJson, WorkspacePath, opened
from prefkit.cli.training import trainers
from prefkit.errors import RecipeError
from prefkit.store.runs import Runs
from prefkit.stream.replayed import Shuffle


def replay(
    run: str,
    /,
    *,
    order: Literal["recorded", "shuffle"] = "recorded",
    window: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    seed: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
    to: Path | None = None,
    json: AsJson = False,
    workspace: WorkspacePath = None,
) -> None:
    """Train again on exactly the rows that a run recorded: no sampler, scorer or prompt is used.

    Parameters
    ----------
    run
        The run.
    order
        As recorded, which on a CPU gives the same weights bit for bit, or shuffled.
    window
        Optimizer steps whose rows are shuffled together. By default all of them.
    seed
        Another seed shuffles otherwise.
    to
        Where the model goes. By default into the run's folder, as replay-recorded or replay-shuffle.
    json
        Print JSON.
    """
    if order == "recorded" and window is not None:
        raise RecipeError(f"--window {window} is given with --order recorded, expected --order shuffle: change one")
    target = opened(workspace)
    found = Runs(target.root).get(run)
    shuffle = Shuffle(window, seed) if order == "shuffle" else None
    done = trainers().replay(run, target, shuffle, to or found.folder / f"replay-{order}", note)
    same = found.outcome.weights == done.outcome.weights if found.outcome else None
    if json:
        say_json({"run": run, "steps": done.outcome.steps, "weights": done.outcome.weights, "same_weights": same})
        return
    other = "other weights than the run's"
    if found.record.ranks > 1:
        other += f", of which {found.record.ranks} processes added up the gradients"
    told = {True: "the same weights as the run's", False: other, None: "the run has not ended"}
    say(f"{run} replayed: {count(done.outcome.steps)} steps, {told[same]}; the model is in {done.folder / 'model'}")
