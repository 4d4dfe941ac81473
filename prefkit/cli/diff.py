"""`prefkit diff`."""

from typing import Annotated, cast

import polars as pl
import polars.selectors as cs
from cyclopts import Parameter
from cyclopts.validators import Number

from prefkit.cli.console import number, say, say_all, say_json, table
from prefkit.cli.options import AsJson, WorkspacePath, opened
from prefkit.cli.texts import one_row, short_id
from prefkit.identity import Json
from prefkit.store.diff import VersionDiff, version_diff


def diff(
    old: str,
    new: str,
    /,
    *,
    show: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    json: AsJson = False,
    workspace: WorkspacePath = None,
) -> None:
    """Tell what changed from one version to another, in the language of preferences.

    Parameters
    ----------
    old
        A version (name@v1), a tag, or a name for its newest version.
    new
        Likewise.
    show
        Also list this many single changes.
    json
        Print JSON.
    """
    versions = opened(workspace).versions
    found = version_diff(versions.get(old), versions.get(new))
    changes = found.changes.with_columns(cs.binary().bin.encode("hex"), pl.col("change").cast(pl.String)).head(
        show or 0
    )
    if json:
        shown = {"changes": cast("list[Json]", changes.to_dicts())} if show else {}
        say_json(found.summary() | shown)
        return
    show_diff(found)
    if show:
        say()
        rows = [
            (c["change"], short_id(c["prompt_id"]), short_id(c.get("old_id")), short_id(c.get("new_id")), _moved(c))
            for c in changes.iter_rows(named=True)
        ]
        say_all([table(["change", "prompt", "old row", "new row", "values"], rows)])


def show_diff(found: VersionDiff) -> None:
    """The changes by kind, and what of the recipe changed."""
    say(f"{found.old} -> {found.new}")
    if found.note:
        say(found.note)
    counted = [(str(change), n) for change, n in found.counts.items() if n]
    say_all([table(["change", "count"], counted, right=["count"])] if counted else ["no rows changed"])
    if found.recipe_changes:
        say()
        rows = [(c.path, one_row(_value(c.old)), one_row(_value(c.new))) for c in found.recipe_changes]
        say_all([table(["recipe", "old", "new"], rows)])


def _moved(change: dict[str, object]) -> str:
    """The values that differ, as in `score_margin 0.5 -> 1`; of a row that came or went, its own values."""
    names = [k.removeprefix("old_") for k in change if k.startswith("old_") and k != "old_id"]
    pairs = [(name, change[f"old_{name}"], change[f"new_{name}"]) for name in names]
    return ", ".join(f"{name} {_step(old, new)}" for name, old, new in pairs if old != new)


def _step(old: object, new: object) -> str:
    if old is None or new is None:
        return _value(new if old is None else old)
    return f"{_value(old)} -> {_value(new)}"


def _value(value: object) -> str:
    return number(value) if isinstance(value, float) else "-" if value is None else str(value)
