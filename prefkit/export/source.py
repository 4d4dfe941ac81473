"""What an export needs to know of a version, and nothing of where the version is stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import polars as pl

Kind = Literal["pairs", "subset"]

LedgerRow: TypeAlias = tuple[str, str, str, int]
"""Stage, unit, outcome, and how many units of the stage ended in it."""


@dataclass(frozen=True, slots=True)
class ExportSource:
    """A version to export; ids are 16 bytes, prompts and completions lists of messages."""

    name: str
    version: str
    """As in `v3`."""
    kind: Kind
    splits: Mapping[str, pl.DataFrame]
    candidates: pl.DataFrame | None
    """Every completion that could have been chosen, with its scores and token ids."""
    ledger: Sequence[LedgerRow]
    fingerprint: str
    """Of the recipe."""
    content_hash: str
    """Of the version's data."""

    @property
    def label(self) -> str:
        """`name@v3`."""
        return f"{self.name}@{self.version}"
