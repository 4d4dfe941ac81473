"""The checks, and what all of them find."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from prefkit.pipeline.doctor.endpoints import endpoints
from prefkit.pipeline.doctor.examine import examine
from prefkit.pipeline.doctor.examined import Examined
from prefkit.pipeline.doctor.extras import missing_extras
from prefkit.pipeline.doctor.findings import Finding, Severity
from prefkit.pipeline.doctor.leakage import same_text, shared_runs
from prefkit.pipeline.doctor.lengths import context, truncation
from prefkit.pipeline.doctor.repeats import conflicts, duplicates, near_duplicates, unusable_rows
from prefkit.pipeline.doctor.spending import spending
from prefkit.pipeline.doctor.templates import prefix_rule, refused
from prefkit.pipeline.recipe import Recipe
from prefkit.store.workspace import Workspace


def troubles(seen: Examined) -> Iterable[Finding]:
    """What kept things from being read."""
    return seen.troubles


CHECKS: tuple[Callable[[Examined], Iterable[Finding]], ...] = (
    troubles,
    missing_extras,
    endpoints,
    unusable_rows,
    duplicates,
    conflicts,
    near_duplicates,
    same_text,
    shared_runs,
    refused,
    prefix_rule,
    context,
    truncation,
    spending,
)
"""In the order in which findings of one severity are told. To add one, write a function from `Examined` to findings."""


@dataclass(frozen=True, slots=True)
class Checkup:
    """What was looked at, and what was found, worst first."""

    prompts: int
    completions: int
    estimated: str | None
    """Why lengths are estimates, or None when the policy's own tokenizer was asked."""
    findings: tuple[Finding, ...]

    def count(self, severity: Severity) -> int:
        """How many findings are that bad."""
        return sum(finding.severity is severity for finding in self.findings)


def checkup(recipe: Recipe, folder: Path, workspace: Workspace | None = None) -> Checkup:
    """Examines a recipe, whose relative paths start from `folder`, and runs every check."""
    seen = examine(recipe, folder, workspace)
    return Checkup(seen.prompts.height, seen.completions.height, seen.estimated, tuple(_found(seen)))


def _found(seen: Examined) -> Iterator[Finding]:
    found = [finding for check in CHECKS for finding in check(seen)]
    for severity in Severity:
        yield from (finding for finding in found if finding.severity is severity)
