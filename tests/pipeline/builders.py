"""A small workspace and recipes over it, with a sampler that needs no model."""

import json
from collections.abc import Sequence
from pathlib import Path

from prefkit.pipeline.build import Built, build
from prefkit.pipeline.recipe import Recipe
from prefkit.store.workspace import Workspace


def problems(count: int, start: int = 0) -> list[dict[str, object]]:
    """So many different additions."""
    return [{"prompt": f"What is {i} + {i * i % 17}?", "answer": i + i * i % 17} for i in range(start, start + count)]


def write_problems(folder: Path, rows: Sequence[object]) -> Path:
    """The rows as `problems.jsonl` in the folder."""
    path = folder / "problems.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def workspace_in(folder: Path, count: int = 20) -> Workspace:
    """A new workspace beside a file of problems."""
    write_problems(folder, problems(count))
    return Workspace.create(folder)


def recipe(**blocks: object) -> Recipe:
    """A recipe over `problems.jsonl`: fake samples, right or wrong by the gold answer, one pair per prompt."""
    base: dict[str, object] = {
        "name": "small",
        "prompts": {"path": "problems.jsonl"},
        "sample": {"backend": "fake", "n": 6, "batch_size": 16},
        "score": [
            {"kind": "python", "path": "tests.pipeline.scorers:right_number", "aspect": "right", "read": ["answer"]}
        ],
        "select": {"kind": "correct_vs_incorrect"},
    }
    return Recipe.model_validate(base | blocks)


def built(workspace: Workspace, **blocks: object) -> Built:
    """Builds the recipe of `recipe(**blocks)`."""
    return build(recipe(**blocks), workspace, workspace.root.parent)
