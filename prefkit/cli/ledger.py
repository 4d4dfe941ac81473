"""`prefkit ledger`."""

from collections.abc import Mapping, Sequence
from typing import Annotated, cast

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.table import Table

from prefkit.cli.accounts import accounts_json, accounts_of, judge_lines
from prefkit.cli.console import count, say, say_all, say_json, table
from prefkit.cli.dropped import listed, show_dropped
from prefkit.cli.options import AsJson, WorkspacePath, opened
from prefkit.errors import RecipeError
from prefkit.identity import Json
from prefkit.ledger import StageAccount


def ledger(
    label: str,
    /,
    *,
    stage: str | None = None,
    outcome: str | None = None,
    show: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    json: AsJson = False,
    workspace: WorkspacePath = None,
) -> None:
    """Account for every row of every stage of a version: what was planned, and what became of it.

    Parameters
    ----------
    label
        A version (name@v2), a tag, or a name for its newest version.
    stage
        Only this stage.
    outcome
        Only stages with this outcome.
    show
        With --outcome: also list this many of its rows.
    json
        Print JSON.
    """
    target = opened(workspace)
    version = target.versions.get(label)
    accounts = accounts_of(version, stage, outcome)
    if show and outcome is None:
        raise RecipeError("--show got no outcome to show rows of: name it with --outcome")
    rows = listed(target, version, outcome, stage, show) if show and outcome else None
    if json:
        told: dict[str, Json] = {
            "version": version.label,
            "ledger": accounts_json(accounts),
            "judges": cast("list[Json]", version.content["judges"]),
        }
        say_json(told if rows is None else told | {"rows": [row.to_json() for row in rows]})
        return
    say_all([ledger_table(accounts), *judge_lines(version)])
    if rows is not None:
        say()
        show_dropped(rows)


def ledger_table(accounts: Sequence[StageAccount]) -> Table:
    """Stage, unit, planned, kept, and every outcome with its count."""
    rows = [(a.stage, a.unit, a.planned, a.kept, _told(a.outcomes)) for a in accounts]
    return table(["stage", "unit", "planned", "kept", "outcomes"], rows, right=["planned", "kept"])


def _told(outcomes: Mapping[str, int]) -> str:
    return "\n".join(f"{name} {count(n)}" for name, n in outcomes.items()) or "-"
