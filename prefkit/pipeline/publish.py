"""What a version is made of: its files, the content part of its manifest, and its provenance."""

import os
import platform
import socket
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path

import polars as pl
import pyarrow as pa

from prefkit.pipeline.recipe import Kind
from prefkit.pipeline.resolve import Resolved
from prefkit.pipeline.rows import REF_LOGPS, pair_schema, subset_schema, to_arrow
from prefkit.pipeline.stages import Stages
from prefkit.records import COMPARISONS, COMPLETIONS, IMPORTS, LOGPS, PROMPTS, SCORES, TASKS, TRAINED
from prefkit.store.manifest import Content, FileEntry, Provenance
from prefkit.store.versions import OUTCOMES, Version, write_rows

PINNED = (PROMPTS, TASKS, IMPORTS, COMPLETIONS, SCORES, COMPARISONS, TRAINED, LOGPS)
"""The tables a version is made from."""
PAIRS: Kind = "pairs"


def write_files(stages: Stages, rows: Mapping[str, pl.DataFrame], draft: Path) -> dict[str, FileEntry]:
    """Writes the splits and the outcomes into a draft folder."""
    own = "pair_id" if stages.recipe.recipe.kind == PAIRS else "row_id"
    schema = _schema(stages)
    entries = {name: write_rows(draft / f"{name}.arrow", to_arrow(part, schema), own) for name, part in rows.items()}
    return entries | {OUTCOMES: write_rows(draft / f"{OUTCOMES}.arrow", stages.dropped.table(), "id")}


def _schema(stages: Stages) -> pa.Schema:
    kind, check = stages.recipe.recipe.kind, stages.recipe.recipe.check
    aspects = [a for labeller in stages.recipe.labellers for a in labeller.aspects]
    schema = pair_schema(aspects) if kind == PAIRS else subset_schema(aspects)
    stored = REF_LOGPS[kind].values() if check and check.store_ref_logps else ()
    return pa.schema([*schema, *((name, pa.float64()) for name in stored)])


def content_of(stages: Stages, files: Mapping[str, FileEntry]) -> Content:
    """The hashed part of the manifest."""
    return {
        "kind": stages.recipe.recipe.kind,
        "fingerprint": stages.recipe.fingerprint,
        "recipe": stages.recipe.content(),
        "parents": list(stages.parents),
        "ledger": stages.ledger.to_json(),
        "judges": stages.judges,
        "shift": stages.shift,
        "to_retry": stages.to_retry,
        "files": dict(files),
    }


def provenance_of(stages: Stages, newest: Version | None) -> Provenance:
    """Who, when, where, and the recipe as it was written."""
    return provenance(stages.recipe, [done.id for done in stages.imports], stages.superseded, newest)


def provenance(recipe: Resolved, import_ids: Sequence[bytes], superseded: int, newest: Version | None) -> Provenance:
    """The same of a version that no stages made."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "by": os.environ.get("USER") or os.environ.get("LOGNAME") or "unknown",
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "packages": {name: installed(name) for name in ("prefkit", "polars", "pyarrow", "pylance")},
        "recipe": recipe.recipe.model_dump(mode="json"),
        "folder": str(recipe.folder),
        "import_ids": [i.hex() for i in import_ids],
        "config_ids": {
            "samplers": [b.sampler_id for b in recipe.blocks],
            "scorers": [x.scorer_id for x in recipe.labellers],
            "reference": recipe.yardstick.block.sampler_id if recipe.yardstick else None,
        },
        "superseded": superseded,
        "previous": newest.label if newest else None,
    }
