"""`prefkit show`."""

from contextlib import nullcontext
from typing import Annotated, cast

import polars as pl
import polars.selectors as cs
from cyclopts import Parameter
from cyclopts.validators import Number

from prefkit.cli.console import console, count, say_json
from prefkit.cli.dropped import listed, show_dropped
from prefkit.cli.folding import Fold
from prefkit.cli.matching import Matches, Query, matching
from prefkit.cli.options import AsJson, Rows, WorkspacePath, opened
from prefkit.cli.pager import pager
from prefkit.cli.rows import Look, completion_parts, pair_parts
from prefkit.cli.shift import shift_lines
from prefkit.errors import RecipeError
from prefkit.identity import Json
from prefkit.pipeline.check.checking import row_columns
from prefkit.store.workspace import Workspace

_ROWS = 20


def show(
    label: str,
    /,
    *,
    where: str | None = None,
    find: str | None = None,
    sort: str | None = None,
    descending: bool = False,
    outcome: str | None = None,
    stage: str | None = None,
    n: Rows | None = None,
    skip: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
    full: bool = False,
    page: bool = False,
    json: AsJson = False,
    workspace: WorkspacePath = None,
) -> None:
    """Read rows of a version: pairs side by side with their differences marked, or single completions.

    Parameters
    ----------
    label
        A version (name@v2), a tag, or a name for its newest version.
    where
        Only rows for which this SQL expression holds, as in "score_margin > 0.5 AND source = 'gsm8k'"; ids are text.
    find
        Only rows whose prompt or completions contain this text, in upper or lower case.
    sort
        Sort by this column, smallest first. Where the recipe has a `check`, also by what that found of each row (and
        in --where): of each side nll, nll_gap, surprise, off_support, too_likely, log_ratio, tokens and cut, as in
        chosen_nll or completion_surprise, and ref_chosen_logps, ref_rejected_logps or ref_logps.
    descending
        Largest first.
    outcome
        Instead of the version's rows, those that ended in this outcome (see `prefkit ledger`).
    stage
        With --outcome: only those of this stage.
    n
        How many rows: 20, or with --page all of them.
    skip
        Leave out this many rows first.
    full
        Whole texts: without it, long ones are folded around their differences.
    page
        Show them in a pager ($PAGER, or less).
    json
        Print JSON.
    """
    target = opened(workspace)
    query = Query(where, find, sort, descending)
    if outcome:
        if query != Query() or skip:
            others = "--where, --find, --sort or --skip"
            raise RecipeError(f"--outcome cannot be joined with {others}, expected it alone: leave them out")
        _show_outcome(target, label, outcome, stage, n or _ROWS, json)
        return
    if stage:
        raise RecipeError("--stage stands alone, expected --outcome beside it: the version's rows passed every stage")
    version = target.versions.get(label)
    found = matching(version, query, lambda: row_columns(version, target))
    if json:
        _say_rows(found, skip, n or _ROWS)
        return
    most = n or (len(found.places) if page else _ROWS)
    with pager() if page else nullcontext(console()) as screen:
        look = Look.on(screen, Fold(find=find, full=full), sort)
        parts = pair_parts if found.version.content["kind"] == "pairs" else completion_parts
        place = skip
        for rows in found.rows(skip, most):
            for row in rows.iter_rows(named=True):
                place += 1
                for part in parts(row, place, look):
                    screen.print(part)
        for line in shift_lines(found.version)[:1]:
            screen.print(line)
        screen.print(_summary(found, place - skip, place))


def _show_outcome(target: Workspace, label: str, outcome: str, stage: str | None, most: int, json: bool) -> None:
    version = target.versions.get(label)
    rows = listed(target, version, outcome, stage, most)
    if json:
        say_json({"version": version.label, "outcome": outcome, "rows": [row.to_json() for row in rows]})
    else:
        show_dropped(rows)


def _say_rows(found: Matches, skip: int, most: int) -> None:
    # JSON has no word for a log-prob of minus infinity.
    finite = pl.when(cs.float().is_finite()).then(cs.float())
    rows = [row for batch in found.rows(skip, most) for row in batch.with_columns(finite).to_dicts()]
    say_json({"version": found.version.label, "matching": len(found.places), "rows": cast("list[Json]", rows)})


def _summary(found: Matches, shown: int, end: int) -> str:
    matches = len(found.places)
    more = f"; more with --skip {end}" if end < matches else ""
    return f"{count(shown)} of {count(matches)} rows of {found.version.label}{more}"
