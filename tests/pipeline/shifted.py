"""A workspace with the arithmetic policy, versions that fit it and versions that do not."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from prefkit.pipeline.build import Built, build
from prefkit.pipeline.imports.importing import import_tables
from prefkit.pipeline.recipe import Recipe
from prefkit.sources.config import ImportConfig
from prefkit.store.workspace import Workspace

ARITHMETIC = Path(__file__).parents[2] / "recipes" / "arithmetic"
PROMPTS = 60


class Counting:
    """A progress that adds up what had to be computed."""

    def __init__(self) -> None:
        self.missing: dict[str, int] = {}

    def stage(self, name: str, planned: int, missing: int) -> None:
        self.missing[name] = self.missing.get(name, 0) + missing

    def advance(self, keys: int) -> None:
        pass


def policy_workspace(folder: Path) -> Workspace:
    """A workspace beside the policy and its problems."""
    shutil.copytree(ARITHMETIC / "policy", folder / "policy")
    shutil.copy(ARITHMETIC / "problems.jsonl", folder)
    return Workspace.create(folder)


def problems(count: int = PROMPTS) -> list[dict[str, str]]:
    return [json.loads(line) for line in (ARITHMETIC / "problems.jsonl").read_text().splitlines()[:count]]


def own(**blocks: object) -> Recipe:
    """Pairs of the policy's own right and wrong answers, checked against it."""
    base: dict[str, object] = {
        "name": "own",
        "prompts": {"path": "problems.jsonl", "map": {"prompt": "question"}, "limit": PROMPTS},
        "policy": {"model": "policy"},
        "sample": {"backend": "transformers", "n": 4, "max_new_tokens": 64},
        "score": [{"kind": "verifier", "name": "math"}],
        "select": {"kind": "correct_vs_incorrect"},
        "check": {"reference": "policy"},
    }
    return Recipe.model_validate(base | blocks)


def built(workspace: Workspace, recipe: Recipe, progress: Counting | None = None) -> Built:
    return build(recipe, workspace, workspace.root.parent, progress)


def imported(workspace: Workspace, name: str, rows: Sequence[Mapping[str, str]], **columns: object) -> None:
    """A source of this name: prompts `q` with answers `a`; `columns` say what else a row holds."""
    path = workspace.root.parent / f"{name}.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    table: dict[str, object] = {"path": str(path), "prompt": {"text": "q", "answer": "a"}, **columns}
    import_tables(workspace.facts, ImportConfig.model_validate({"name": name, "tables": [table]}))


def verily(workspace: Workspace, count: int = PROMPTS) -> Recipe:
    """Right and wrong answers in words that the policy would never write."""
    rows = [
        {"q": p["question"], "a": p["answer"], "text": f"Ergo, verily, {said}!", "by": by}
        for p in problems(count)
        for by, said in (("sage", p["answer"]), ("fool", "987654"))
    ]
    imported(workspace, "verily", rows, completions={"it": {"text": "text", "model": "by"}})
    blocks = {
        "name": "verily",
        "prompts": {"imported": "verily"},
        "score": [{"kind": "verifier", "name": "math"}],
        "select": {"kind": "correct_vs_incorrect"},
    }
    return Recipe.model_validate(blocks)


def renumbered(policy: Path, target: Path) -> Path:
    """The same model with another tokenizer: every token but the special ones has another id, embeddings likewise."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(policy, target)
    tokenizer = json.loads((target / "tokenizer.json").read_text())
    special = len(tokenizer["added_tokens"])
    vocabulary = tokenizer["model"]["vocab"]
    ordinary = len(vocabulary) - special
    new = {i: i if i < special else special + (i - special + 1) % ordinary for i in range(len(vocabulary))}
    tokenizer["model"]["vocab"] = {token: new[i] for token, i in vocabulary.items()}
    (target / "tokenizer.json").write_text(json.dumps(tokenizer))
    weights = load_file(target / "model.safetensors")
    embeddings = weights["model.embed_tokens.weight"].clone()
    for old, i in new.items():
        weights["model.embed_tokens.weight"][i] = embeddings[old]
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return target
