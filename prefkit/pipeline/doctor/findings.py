"""A finding: what is wrong, how bad that is, with how many rows, and what to do about it."""

from dataclasses import dataclass
from enum import StrEnum

import polars as pl

from prefkit.identity import Json

EXCERPT = 60
"""Characters shown of a text."""


class Severity(StrEnum):
    """How bad a finding is, worst first."""

    ERROR = "error"
    """The build or the training fails, or what it gives cannot be trusted."""
    WARNING = "warning"
    """Rows are lost or count for more than they should."""
    NOTE = "note"
    """Good to know."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know. `message` says what there is and what was expected, `remedy` what to do about it."""

    check: str
    severity: Severity
    message: str
    remedy: str = ""
    rows: int | None = None
    """How many rows it is about; None where it is not about rows."""

    def __str__(self) -> str:
        return f"{self.severity}: {self.check}: {self.message}" + (f": {self.remedy}" if self.remedy else "")

    def to_json(self) -> dict[str, Json]:
        """As plain data."""
        return {
            "check": self.check, "severity": str(self.severity), "rows": self.rows, "message": self.message,
            "remedy": self.remedy,
        }  # fmt: skip


def of(part: int, whole: int, noun: str) -> str:
    """`3 of 40 prompts`."""
    return f"{part:,} of {whole:,} {noun}{'' if whole == 1 else 's'}"


def such_as(texts: pl.Series) -> str:
    """`, such as 'What is 4 * 3?'`: the beginning of the first text, on one line."""
    text = " ".join(str(texts[0]).split())
    return f", such as {text[:EXCERPT] + ('...' if len(text) > EXCERPT else '')!r}"
