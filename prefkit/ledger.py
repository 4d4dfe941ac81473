"""The ledger: every planned key of every stage ends in exactly one named outcome, and the sums are checked.

A stage's `planned` is derived from what the stage before it kept; its `outcomes` are counted on the rows it produced.
The two numbers come from different places on purpose: a lost, doubled or invented row makes them differ, and then no
version is written.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TypedDict

import polars as pl

from prefkit.errors import LedgerError


class AccountEntry(TypedDict):
    """An account as it stands in a manifest."""

    stage: str
    unit: str
    planned: int
    outcomes: dict[str, int]
    kept: int


@dataclass(frozen=True, slots=True)
class StageAccount:
    """One line of the ledger: how many keys a stage planned, and how many ended in each outcome."""

    stage: str
    unit: str
    planned: int
    outcomes: Mapping[str, int]
    kept: int
    """How many of them the next stage works on."""

    def check(self) -> None:
        """Raises LedgerError unless the outcomes add up to the plan and no more are kept than planned."""
        total = sum(self.outcomes.values())
        if total != self.planned or min(self.outcomes.values(), default=0) < 0 or not 0 <= self.kept <= total:
            raise LedgerError(
                f"stage {self.stage!r} ended {total} {self.unit}s in an outcome and kept {self.kept}, expected "
                f"{self.planned} in all ({_told(self.outcomes)}): no version is written; this is a bug or damaged "
                "facts, run `prefkit verify`"
            )


@dataclass(slots=True)
class Ledger:
    """The accounts of a build, stage by stage in the order they ran."""

    accounts: list[StageAccount] = field(default_factory=list[StageAccount])

    def add(self, stage: str, unit: str, planned: int, outcomes: pl.Series, kept: Collection[str]) -> None:
        """Counts a stage's outcome column, whose values `kept` go on to the next stage, and checks the sum."""
        counted = outcomes.alias("outcome").drop_nulls().value_counts().cast({"outcome": pl.String})
        counts: dict[str, int] = dict(counted.sort("count", "outcome", descending=[True, False]).iter_rows())
        self.put(StageAccount(stage, unit, planned, counts, sum(counts.get(k, 0) for k in kept)))

    def put(self, account: StageAccount) -> None:
        """Adds an account and checks its sum."""
        account.check()
        self.accounts.append(account)

    def kept(self, stage: str) -> int:
        """How many keys of a stage go on to the next."""
        return next(a.kept for a in self.accounts if a.stage == stage)

    def to_json(self) -> list[AccountEntry]:
        """The accounts as plain data, as they stand in a manifest."""
        return [
            {"stage": a.stage, "unit": a.unit, "planned": a.planned, "outcomes": dict(a.outcomes), "kept": a.kept}
            for a in self.accounts
        ]


def _told(outcomes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in outcomes.items()) or "none"
