"""`prefkit runs`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import cast

from prefkit.cli.console import count, say, say_all, say_json, table
from prefkit.cli.options import AsJson, WorkspacePath, opened
from prefkit.identity import Json
from prefkit.store.runs import Run, Runs
from prefkit.stream.recording import is_recorded_now

SHOWN = {"reward": "stream/reward", "loss": "loss"}
COLUMNS = ("run", "method", "s", "steps", *SHOWN, "age", "data")
ENDED, RUNNING, STOPPED = "ended", "running", "stopped"
UNITS = {"d": 86_400, "h": 3_600, "min": 60}


def runs(*, json: AsJson = False, workspace: WorkspacePath = None) -> None:
    """List runs, newest first: ended, running or stopped, and the last numbers that each has logged.

    Parameters
    ----------
    json
        Print JSON.
    """
    found = sorted(Runs(opened(workspace).root).all(), key=lambda run: (run.record.created, run.name), reverse=True)
    if json:
        say_json([_entry(run) for run in found])
    elif found:
        now = datetime.now(UTC)
        say_all([table(COLUMNS, [_row(run, now) for run in found], right=("s", "steps", *SHOWN, "age"))])
    else:
        say("there is no run yet: run `prefkit train`")


def age(seconds: float) -> str:
    """A time that has passed, in the largest unit of which there are two or more."""
    return next((f"{seconds // size:.0f} {unit}" for unit, size in UNITS.items() if seconds >= 2 * size), "now")


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
        "state": _state(run),
        "steps": outcome.steps if outcome else int(run.logged.get("step", 0)),
        "weights": outcome and outcome.weights,
        "metrics": dict(_metrics(run)),
    }


def _row(run: Run, now: datetime) -> tuple[object, ...]:
    record, metrics = run.record, _metrics(run)
    train = cast("dict[str, Json]", record.recipe["train"])
    period = cast("float | None", train["sync_period"])
    return (
        run.name,
        f"{record.method}, {train['reference']}",
        "" if period is None else f"{period:g}",
        _steps(run, cast("dict[str, Json]", train["args"])),
        *(f"{metrics[name]:.4g}" if name in metrics else "" for name in SHOWN.values()),
        age((now - datetime.fromisoformat(record.created)).total_seconds()),
        record.data or "",
    )


def _metrics(run: Run) -> Mapping[str, float]:
    outcome = run.outcome
    return outcome.metrics if outcome else {name: value for name, value in run.logged.items() if name != "step"}


def _state(run: Run) -> str:
    if run.outcome:
        return ENDED
    return RUNNING if is_recorded_now(run.folder / "recording") else STOPPED


def _steps(run: Run, args: Mapping[str, Json]) -> str:
    """All of a run that ended; else those that were logged, of as many as the recipe asks for, and how it stands."""
    outcome, asked = run.outcome, args.get("max_steps")
    if outcome:
        return count(outcome.steps)
    done = count(int(run.logged.get("step", 0)))
    of = f"/{count(asked)}" if isinstance(asked, int) and asked > 0 else ""
    return f"{done}{of} {_state(run)}"
