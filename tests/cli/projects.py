"""A small project to run commands in: a folder with a recipe, its prompts and a workspace."""

import json
from collections.abc import Mapping
from pathlib import Path

from prefkit.cli import main

RECIPE = """\
name: arithmetic
prompts: {path: problems.jsonl, map: {prompt: question}}
sample: {backend: fake, n: 6}
score:
  - {kind: verifier, name: regex, pattern: "is -?\\\\d*[02468]\\\\."}
select: {kind: correct_vs_incorrect}
split: {test: 0.2}
"""
PROBLEMS = 12


def write_project(folder: Path, recipe: str = RECIPE) -> Path:
    """A project without a workspace."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"question": f"What is {a} + {a + 7}?", "answer": 2 * a + 7} for a in range(PROBLEMS)]
    (folder / "problems.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (folder / "recipe.yaml").write_text(recipe)
    return folder


def built_project(folder: Path, recipe: str = RECIPE) -> Path:
    """A project whose recipe is built: `arithmetic@v1`."""
    write_project(folder, recipe)
    assert main(["init", str(folder)]) == 0
    assert main(["build", str(folder / "recipe.yaml"), "--workspace", str(folder)]) == 0
    return folder


def files_below(folder: Path) -> Mapping[str, bytes]:
    """Every file below a folder with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
