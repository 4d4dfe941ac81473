"""The ledger of a version as commands ask for it: whole, of one stage, or where one outcome occurs."""

from collections.abc import Sequence

from prefkit.errors import NotFoundError, suggestion
from prefkit.identity import Json
from prefkit.ledger import StageAccount
from prefkit.store.manifest import Measure
from prefkit.store.versions import Version


def accounts_of(version: Version, stage: str | None = None, outcome: str | None = None) -> list[StageAccount]:
    """The accounts of a stage (all by default) in which an outcome (any by default) occurs. Raises NotFoundError."""
    accounts = version.ledger
    if stage is not None:
        _require(stage, [a.stage for a in accounts], "stage", version)
        accounts = [a for a in accounts if a.stage == stage]
    if outcome is not None:
        _require(outcome, sorted({o for a in accounts for o in a.outcomes}), "outcome", version)
        accounts = [a for a in accounts if outcome in a.outcomes]
    return accounts


def accounts_json(accounts: Sequence[StageAccount]) -> list[Json]:
    """The accounts as plain data."""
    return [
        {"stage": a.stage, "unit": a.unit, "planned": a.planned, "outcomes": dict(a.outcomes), "kept": a.kept}
        for a in accounts
    ]


def judge_lines(version: Version) -> list[str]:
    """What the version's pairwise judges prefer besides quality, a line per measure."""
    return [
        f"judge {report['judge']}: {name.replace('_', ' ')} {_interval(measure)}"
        for report in version.content["judges"]
        for name, measure in report["measures"].items()
    ]


def _interval(measure: Measure) -> str:
    if measure["value"] is None:
        return "unknown, no pair counts"
    return f"{measure['value']:.3f} ({measure['low']:.3f} to {measure['high']:.3f}, {measure['pairs']:,} pairs)"


def _require(got: str, known: Sequence[str], what: str, version: Version) -> None:
    if got not in known:
        raise NotFoundError(f"{what} {got!r} is not in the ledger of {version.label}{suggestion(got, list(known))}")
