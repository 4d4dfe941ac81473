"""`prefkit runs`."""

from prefkit.cli.console import say, say_all, say_json, table
from prefkit.cli.options import AsJson, WorkspacePath, opened
from prefkit.identity import Json
from prefkit.store.runs import Run, Runs

SHOWN = {"reward margin": "rewards/margins", "loss": "loss"}


def runs(*, json: AsJson = False, workspace: WorkspacePath = None) -> None:
    """List runs, newest first.

    Parameters
    ----------
    json
        Print JSON.
    """
    found = sorted(Runs(opened(workspace).root).all(), key=lambda run: (run.record.created, run.name), reverse=True)
    if json:
        say_json([_entry(run) for run in found])
    elif found:
        columns = ["run", "method", "s", "steps", *SHOWN, "started (UTC)", "trains on"]
        say_all([table(columns, [_row(run) for run in found], right=("s", "steps", *SHOWN))])
    else:
        say("there is no run yet: run `prefkit train`")


def _entry(run: Run) -> dict[str, Json]:
    record, outcome = run.record, run.outcome
    return {
        "run": run.name,
        "id": record.id,
        "method": record.method,
        "data": record.data,
        "train": record.recipe["train"],
        "policy_id": record.policy_id,
        "created": record.created,
        "steps": outcome and outcome.steps,
        "weights": outcome and outcome.weights,
        "metrics": dict(outcome.metrics) if outcome else None,
    }


def _row(run: Run) -> tuple[object, ...]:
    record, outcome = run.record, run.outcome
    train = record.recipe["train"]
    assert isinstance(train, dict)
    period = train["sync_period"]
    numbers = [f"{outcome.metrics[name]:.4g}" if outcome and name in outcome.metrics else "" for name in SHOWN.values()]
    return (
        run.name,
        record.method,
        "" if period is None else f"{period:g}",
        outcome.steps if outcome else "…",
        *numbers,
        record.created[:16].replace("T", " "),
        record.data or "own samples",
    )
