"""What Python users call: build a recipe, open a version, and look at it as frames or as a `datasets.DatasetDict`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from prefkit.export.formats import formatted
from prefkit.export.writers import dataset_dict
from prefkit.pipeline import build as pipeline
from prefkit.pipeline.exporting import export_source, version_candidates
from prefkit.pipeline.recipe_file import load_recipe
from prefkit.store.versions import Version as StoredVersion
from prefkit.store.workspace import Workspace

if TYPE_CHECKING:
    from datasets import DatasetDict


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a dataset: immutable, memory-mapped when read."""

    stored: StoredVersion
    workspace: Workspace

    def __str__(self) -> str:
        return self.stored.label

    def frame(self, split: str | None = None) -> pl.LazyFrame:
        """The rows of a split, or of all splits with a column `split`."""
        return self.stored.frame(split)

    def ledger(self) -> pl.DataFrame:
        """What became of every planned key: `stage`, `unit`, `planned`, `outcome`, `count`, `kept`."""
        rows = [(a.stage, a.unit, a.planned, o, n, a.kept) for a in self.stored.ledger for o, n in a.outcomes.items()]
        return pl.DataFrame(rows, schema=["stage", "unit", "planned", "outcome", "count", "kept"], orient="row")

    def outcomes(self) -> pl.LazyFrame:
        """The rows that were dropped: `stage`, `outcome`, `id`, `prompt_id`, `detail`."""
        return self.stored.outcomes()

    def candidates(self) -> pl.DataFrame:
        """Every completion that could have been selected, with scores per aspect and token ids."""
        return version_candidates(self.stored, self.workspace)

    def dataset(self, format: str = "trl") -> "DatasetDict":  # noqa: A002 - the command line's word for it
        """The splits as TRL trains on them; `format` as in `prefkit export`. Needs the package `datasets`."""
        return dataset_dict(formatted(export_source(self.stored), format))


def build(
    recipe: str | Path,
    *,
    workspace: str | Path | None = None,
    overrides: Sequence[str] = (),
    retry: Sequence[str] = (),
) -> Version:
    """Runs what is missing of a recipe file and returns its version.

    `overrides` are like `--set` on the command line (`"sample.n=16"`), `retry` names final failure kinds to try again.
    The workspace is found upwards from the working folder unless given. Raises PrefkitError for every user mistake.
    """
    path = Path(recipe)
    opened = _opened(workspace)
    done = pipeline.build(load_recipe(path, overrides), opened, path.resolve().parent, retry=retry)
    return Version(done.version, opened)


def open_version(label: str, *, workspace: str | Path | None = None) -> Version:
    """The version a label means: `name@v2`, a tag, or a name for its newest."""
    opened = _opened(workspace)
    return Version(opened.versions.get(label), opened)


def _opened(workspace: str | Path | None) -> Workspace:
    return Workspace.open(Path(workspace)) if workspace is not None else Workspace.find()
