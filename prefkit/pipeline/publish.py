"""What a version is made of: its files, the content part of its manifest, and its provenance."""

import os
import platform
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import Literal

import polars as pl

from prefkit.pipeline.rows import pair_schema, subset_schema, to_arrow
from prefkit.pipeline.stages import Stages
from prefkit.records import COMPARISONS, COMPLETIONS, IMPORTS, PROMPTS, SCORES, TASKS
from prefkit.selection.config import PairBase
from prefkit.store.manifest import Content, FileEntry, Provenance
from prefkit.store.versions import OUTCOMES, Version, write_rows

PINNED = (PROMPTS, TASKS, IMPORTS, COMPLETIONS, SCORES, COMPARISONS)
"""The tables a version is made from."""
PAIRS: Literal["pairs"] = "pairs"
SUBSET: Literal["subset"] = "subset"


def write_files(stages: Stages, rows: Mapping[str, pl.DataFrame], draft: Path) -> dict[str, FileEntry]:
    """Writes the splits and the outcomes into a draft folder."""
    aspects = [a for labeller in stages.recipe.labellers for a in labeller.aspects]
    schema, own = (pair_schema(aspects), "pair_id") if kind_of(stages) == PAIRS else (subset_schema(aspects), "row_id")
    entries = {name: write_rows(draft / f"{name}.arrow", to_arrow(part, schema), own) for name, part in rows.items()}
    return entries | {OUTCOMES: write_rows(draft / f"{OUTCOMES}.arrow", stages.dropped.table(), "id")}


def kind_of(stages: Stages) -> Literal["pairs", "subset"]:
    """Whether a row of the version is a pair or a single completion."""
    return PAIRS if isinstance(stages.recipe.recipe.select, PairBase) else SUBSET


def content_of(stages: Stages, files: Mapping[str, FileEntry]) -> Content:
    """The hashed part of the manifest."""
    return {
        "kind": kind_of(stages),
        "fingerprint": stages.recipe.fingerprint,
        "recipe": stages.recipe.content(),
        "parents": list(stages.parents),
        "ledger": stages.ledger.to_json(),
        "judges": stages.judges,
        "to_retry": stages.to_retry,
        "files": dict(files),
    }


def provenance_of(stages: Stages, newest: Version | None) -> Provenance:
    """Who, when, where, and the recipe as it was written."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "by": os.environ.get("USER") or os.environ.get("LOGNAME") or "unknown",
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "packages": {name: installed(name) for name in ("prefkit", "polars", "pyarrow", "pylance")},
        "recipe": stages.recipe.recipe.model_dump(mode="json"),
        "folder": str(stages.recipe.folder),
        "import_ids": [done.id.hex() for done in stages.imports],
        "config_ids": {
            "samplers": [b.sampler_id for b in stages.recipe.blocks],
            "scorers": [x.scorer_id for x in stages.recipe.labellers],
        },
        "superseded": stages.superseded,
        "previous": newest.label if newest else None,
    }
