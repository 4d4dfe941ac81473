"""What the checks look at."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from prefkit.pipeline.doctor.findings import Finding
from prefkit.pipeline.dry_run import DryRun
from prefkit.pipeline.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Examined:
    """A recipe and everything that could be read for it. What could not be read is empty and has its `troubles`."""

    recipe: Recipe
    folder: Path
    tasks: pl.DataFrame
    """Every task of the source: `prompt_id`, `answer`, `split`, `messages`, `text` and `outcome` of prompt hygiene."""
    dropped_rows: dict[str, int]
    """Rows of the prompts' source that are no task, by outcome of the import."""
    prompts: pl.DataFrame
    """The tasks of the build: `messages`, `text`, `tokens` (with the opening of the answer), `sampled_tokens` (also
    with the longest system message), `prefix` (the template's prefix rule: true, false, or null where unknown).
    """
    completions: pl.DataFrame
    """The completions there are: `tokens` with their prompt."""
    context: int | None
    """Most tokens the policy can read."""
    estimated: str | None
    """Why tokens are estimates, or None."""
    plan: DryRun | None
    troubles: tuple[Finding, ...]
    """What kept things from being read."""
