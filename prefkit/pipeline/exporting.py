"""A version as the exporters take it: its rows by split, its ledger, and every candidate it could have been made of."""

import polars as pl

from prefkit.export.source import ExportSource
from prefkit.pipeline.rebuild import reading_stages
from prefkit.store.versions import Version
from prefkit.store.workspace import Workspace


def export_source(version: Version, candidates: pl.DataFrame | None = None) -> ExportSource:
    """The version for the exporters; `candidates` are left out unless given."""
    return ExportSource(
        name=version.name,
        version=f"v{version.number}",
        kind=version.content["kind"],
        splits={split: version.frame(split).drop("row_hash").collect() for split in version.splits},
        candidates=candidates,
        ledger=[(a.stage, a.unit, outcome, count) for a in version.ledger for outcome, count in a.outcomes.items()],
        fingerprint=version.content["fingerprint"],
        content_hash=version.manifest["content_hash"],
    )


def version_candidates(version: Version, workspace: Workspace) -> pl.DataFrame:
    """Every completion the version could have selected, with scores and token ids, from the facts as pinned."""
    with workspace.shared():
        return reading_stages(version, workspace).everything()
