"""`prefkit show`."""

from contextlib import nullcontext
from typing import cast

import polars as pl
import polars.selectors as cs
from polars.exceptions import PolarsError

from prefkit.cli.console import console, count, say_json
from prefkit.cli.dropped import listed, show_dropped
from prefkit.cli.options import AsJson, Rows, WorkspacePath, opened
from prefkit.cli.rows import completion_parts, pair_parts
from prefkit.errors import DamageError, RecipeError, suggestion
from prefkit.identity import Json
from prefkit.store.versions import Version


def show(
    label: str,
    /,
    *,
    where: str | None = None,
    sort: str | None = None,
    descending: bool = False,
    outcome: str | None = None,
    stage: str | None = None,
    n: Rows = 20,
    page: bool = False,
    json: AsJson = False,
    workspace: WorkspacePath = None,
) -> None:
    """Read rows of a version: pairs side by side, or single completions.

    Parameters
    ----------
    label
        A version (name@v2), a tag, or a name for its newest version.
    where
        Only rows for which this SQL expression holds, as in "score_margin > 0.5 AND source = 'gsm8k'"; ids are text.
    sort
        Sort by this column.
    descending
        Largest first.
    outcome
        Instead of the version's rows, those that ended in this outcome (see `prefkit ledger`).
    stage
        With --outcome: only those of this stage.
    n
        How many rows.
    page
        Show them in a pager.
    json
        Print JSON.
    """
    target = opened(workspace)
    version = target.versions.get(label)
    if outcome:
        if where or sort:
            raise RecipeError("--outcome cannot be joined with --where or --sort, expected it alone: leave them out")
        rows = listed(target, version, outcome, stage, n)
        if json:
            say_json({"version": version.label, "outcome": outcome, "rows": [row.to_json() for row in rows]})
        else:
            show_dropped(rows)
        return
    if stage:
        raise RecipeError("--stage stands alone, expected --outcome beside it: the version's rows passed every stage")
    matching, found = matching_rows(version, where, sort, descending, n)
    if json:
        # JSON has no word for a log-prob of minus infinity.
        found = found.with_columns(pl.when(cs.float().is_finite()).then(cs.float()))
        say_json({"version": version.label, "matching": matching, "rows": cast("list[Json]", found.to_dicts())})
    else:
        _show(version, matching, found, page)


def matching_rows(
    version: Version, where: str | None, sort: str | None, descending: bool, n: int
) -> tuple[int, pl.DataFrame]:
    """How many rows match, and the first n of them. Raises RecipeError for an expression that cannot be obeyed."""
    try:
        frame = version.frame().drop("row_hash").with_columns(cs.binary().bin.encode("hex"))
        columns = frame.collect_schema().names()
        _require_column("--sort", sort, columns, version)
        frame = frame.filter(_condition(where, columns, version)) if where else frame
        frame = frame.sort(sort, descending=descending, nulls_last=True, maintain_order=True) if sort else frame
        return frame.select(pl.len()).collect().item(), frame.head(n).collect()
    except (PolarsError, pl.exceptions.PanicException) as error:
        trouble = str(error).splitlines()[0]
        if where or sort:
            asked = f"--where {where!r}" if where else f"--sort {sort!r}"
            raise RecipeError(f"{asked} cannot be obeyed: {trouble}") from None
        raise DamageError(f"rows of {version.label} cannot be read ({trouble}): run `prefkit verify`") from None


def _condition(where: str, columns: list[str], version: Version) -> pl.Expr:
    condition = pl.sql_expr(where)
    for name in condition.meta.root_names():
        _require_column("--where", name, columns, version)
    return condition


def _require_column(option: str, name: str | None, columns: list[str], version: Version) -> None:
    if name is not None and name not in columns:
        near = suggestion(name, columns)
        raise RecipeError(f"{option} names {name!r}, expected a column of {version.label}{near}")


def _show(version: Version, matching: int, rows: pl.DataFrame, page: bool) -> None:
    parts = pair_parts if version.content["kind"] == "pairs" else completion_parts
    screen = console()
    with screen.pager() if page else nullcontext():
        for row in rows.iter_rows(named=True):
            for part in parts(row):
                screen.print(part)
        screen.print(f"{count(rows.height)} of {count(matching)} rows of {version.label}")
