"""The ledger of a version as commands ask for it: whole, of one stage, or where one outcome occurs."""

from collections.abc import Mapping, Sequence
from typing import TypedDict, cast

from prefkit.errors import NotFoundError, suggestion
from prefkit.store.versions import Version


class Account(TypedDict):
    """One line of a ledger, as it stands in a manifest."""

    stage: str
    unit: str
    planned: int
    outcomes: Mapping[str, int]
    kept: int


def accounts_of(version: Version, stage: str | None = None, outcome: str | None = None) -> list[Account]:
    """The accounts of a stage (all by default) in which an outcome (any by default) occurs. Raises NotFoundError."""
    accounts = cast("list[Account]", version.content["ledger"])
    if stage is not None:
        _require(stage, [a["stage"] for a in accounts], "stage", version)
        accounts = [a for a in accounts if a["stage"] == stage]
    if outcome is not None:
        _require(outcome, sorted({o for a in accounts for o in a["outcomes"]}), "outcome", version)
        accounts = [a for a in accounts if outcome in a["outcomes"]]
    return accounts


def _require(got: str, known: Sequence[str], what: str, version: Version) -> None:
    if got not in known:
        raise NotFoundError(f"{what} {got!r} is not in the ledger of {version.label}{suggestion(got, list(known))}")
