"""A workspace of imported completions by four writers, what two annotators said of them, and versions made of both.

Of "Name a colour." ann and cyd wrote the same text, "red"; ann's has the smaller id and is kept.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa

from prefkit.pipeline.build import build
from prefkit.pipeline.imports.importing import import_tables
from prefkit.pipeline.recipe import Recipe
from prefkit.records import COMPARISONS, COMPLETIONS, PROMPTS, FactTable
from prefkit.sources.config import ImportConfig
from prefkit.store.lance_facts import STAMPS
from prefkit.store.versions import Version
from prefkit.store.workspace import Workspace

COLOUR, NUMBER = "Name a colour.", "Name a number."
PROMPT_ROWS = [{"id": "colour", "prompt": COLOUR}, {"id": "number", "prompt": NUMBER}, {"id": "none", "prompt": None}]
WRITTEN = [
    ("colour", "ann", "red"), ("colour", "bob", "blue"), ("colour", "cyd", "red"), ("colour", "dan", "green"),
    ("number", "ann", "one"), ("number", "bob", "two"),
]  # fmt: skip
SCORED = [
    ("colour", "ann", "eve", 4), ("colour", "cyd", "eve", 2), ("colour", "bob", "eve", 1),
    ("number", "ann", "eve", "no idea"), ("number", "zoe", "eve", 3),
]  # fmt: skip
COMPARED = [
    ("colour", "ann", "bob", "eve", 0.83, "ab", "warmer"), ("colour", "ann", "bob", "fay", 0.25, "ba", None),
    ("colour", "ann", "cyd", "eve", 0.6, "ab", None), ("colour", "bob", "dan", "eve", 0.5, "ab", None),
    ("number", "ann", "bob", "eve", "???", "ab", None),
]  # fmt: skip


def rated_workspace(folder: Path, without: str | None = None) -> Workspace:
    """A workspace that holds the source `words`; imported anew, without one model, where there is one already."""
    workspace = Workspace.open(folder) if without else Workspace.create(folder)
    written = _named(("id", "model", "text"), WRITTEN, without)
    scored = _named(("id", "model", "by", "score"), SCORED, without)
    compared = _named(("id", "a", "b", "by", "preference", "order", "why"), COMPARED, without)
    key = {"prompt": {"key": "id"}}
    said = {"a": "a", "b": "b", "scorer": "by", "preference": "preference", "order": "order", "rationale": "why"}
    tables = [
        jsonl(folder, "prompts", PROMPT_ROWS) | {"prompt": {"text": "prompt", "key": "id"}},
        jsonl(folder, "written", written) | key | {"completions": {"it": {"text": "text", "model": "model"}}},
        jsonl(folder, "scored", scored) | key | {"scores": [{"of": "model", "scorer": "by", "score": "score"}]},
        jsonl(folder, "compared", compared) | key | {"comparisons": [said]},
    ]
    import_tables(workspace.facts, ImportConfig.model_validate({"name": "words", "tables": tables}))
    return workspace


def _named(names: Sequence[str], rows: Sequence[tuple[object, ...]], without: str | None) -> list[dict[str, object]]:
    return [dict(zip(names, row, strict=True)) for row in rows if without is None or without not in row]


def jsonl(folder: Path, name: str, rows: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """A file of an import, written."""
    path = folder / f"{name}.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return {"path": str(path)}


def build_words(workspace: Workspace, **blocks: object) -> Version:
    """Builds `words`: pairs that eve compared, or what the blocks say."""
    base: dict[str, object] = {
        "name": "words",
        "prompts": {"imported": "words"},
        "score": [{"kind": "imported", "scorer": "eve"}],
        "select": {"kind": "comparisons"},
    }
    return build(Recipe.model_validate(base | blocks), workspace, workspace.root.parent).version


def completion_id(workspace: Workspace, prompt: str, model: str) -> str:
    """The completion of a prompt that a model wrote, in hex digits."""
    prompts = workspace.facts.read(PROMPTS, ["id", "messages"])
    (prompt_id,) = (i for i, messages in prompts.iter_rows() if messages[0]["content"] == prompt)
    found = workspace.facts.read(COMPLETIONS, ["id"], {"prompt_id": prompt_id, "policy_id": f"imported:{model}"})
    return found.item().hex()


def write_again(workspace: Workspace, table: FactTable, row_id: bytes, **columns: object) -> None:
    """Appends a row of the same key once more, with other values."""
    names = [name for name in table.schema.names if name not in STAMPS]
    row = workspace.facts.read(table, names, {"id": row_id}).head(1)
    other = row.with_columns(pl.lit(value).alias(name) for name, value in columns.items())
    fields = pa.schema([table.schema.field(name) for name in names])
    workspace.facts.append(table, other.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(fields))


def comparison_ids(workspace: Workspace, *sides: str) -> list[str]:
    """The comparisons of two completions."""
    first, second = sorted(bytes.fromhex(side) for side in sides)
    rows = workspace.facts.read(COMPARISONS, ["id"], {"completion_a": first, "completion_b": second})
    return [i.hex() for i in rows["id"]]
