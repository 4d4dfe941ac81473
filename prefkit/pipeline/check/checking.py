"""`check`: a version against a reference model, on the prompts of the version; and what a recipe's check said of rows.

All of it is the check stage over the rows of a version that exists, so a second check of the same version computes
nothing, and the numbers of a recipe's own check are worked out again from the facts without a model.
"""

import polars as pl

from prefkit.errors import SourceError
from prefkit.pipeline.check.measuring import ReferenceMaker, measured, numbered_prompts, sides_of
from prefkit.pipeline.check.reference_maker import LocalReference
from prefkit.pipeline.check.stage import CHECK, Checked, reported, scored
from prefkit.pipeline.check.yardstick import Yardstick
from prefkit.pipeline.progress import Progress
from prefkit.pipeline.rebuild import recorded_yardstick
from prefkit.store.versions import Version
from prefkit.store.workspace import Workspace


def check(version: Version, workspace: Workspace, yardstick: Yardstick, progress: Progress) -> Checked:
    """Checks the version. Raises SourceError for a version without rows or a reference that cannot be read."""
    with workspace.shared():
        facts = workspace.facts
        maker = LocalReference(yardstick, facts, workspace.policy_cache, progress)
        return _checked(version, workspace, yardstick, facts.heads(), maker)


def row_columns(version: Version, workspace: Workspace) -> pl.DataFrame | None:
    """What the check of the version's recipe says of each row (see `Scores.by_row`); None without a check.

    From the facts as pinned, without a model.
    """
    yardstick = recorded_yardstick(version)
    if yardstick is None or version.content["shift"] is None:
        return None
    with workspace.shared():
        return _checked(version, workspace, yardstick, dict(version.pins), maker=None).scores.by_row()


def _checked(
    version: Version, workspace: Workspace, yardstick: Yardstick, pins: dict[str, int], maker: ReferenceMaker | None
) -> Checked:
    rows = version.frame().drop("row_hash").collect()
    if rows.is_empty():
        raise SourceError(f"version {version.label} has no rows, expected some: there is nothing to check")
    sides = sides_of(rows, version.content["kind"])
    asked = pl.concat([rows["prompt_id"], _dropped_prompts(version, yardstick)])
    found = measured(workspace.facts, yardstick, sides, numbered_prompts(asked), pins, maker)
    unscored = int((found.sides["tokens"] == 0).sum())
    if unscored == found.sides.height:
        raise SourceError(
            f"max_length is {yardstick.config.max_length}, which leaves no token of any completion of {version.label}, "
            "expected one at least: raise it"
        )
    scores = scored(yardstick, found, found.sides)
    return Checked(reported(yardstick, found, scores, workspace.facts, pins, unscored), scores)


def _dropped_prompts(version: Version, yardstick: Yardstick) -> pl.Series:
    """The prompts of rows that this very check dropped at build: their samples belong to the yardstick, too."""
    recorded = recorded_yardstick(version)
    if recorded is None or not recorded.measures_like(yardstick):
        return pl.Series("prompt_id", [], pl.Binary)
    return version.outcomes().filter(pl.col("stage") == CHECK).select("prompt_id").collect()["prompt_id"]
