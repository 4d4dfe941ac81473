"""`regenerate`: a version built anew with completions of another policy, on the same prompts and by the same scorers.

A share of the prompts may keep the version's own completions as candidates. What cannot label new completions (imported
ratings) is left out for all of them, so that one scale judges both; at least one scorer has to be left.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from prefkit.errors import RecipeError
from prefkit.identity import Json
from prefkit.pipeline.build import Built, build
from prefkit.pipeline.progress import Progress
from prefkit.pipeline.prompt_shares import below
from prefkit.pipeline.recipe import CompletionsConfig, Recipe
from prefkit.store.versions import Version
from prefkit.store.workspace import Workspace

N = 8
"""Completions per prompt where the version's recipe draws none."""
_Block = dict[str, Json]


def regenerated_recipe(version: Version, policy: str, n: int | None, max_new_tokens: int, keep: float = 0.0) -> Recipe:
    """The version's recipe with this policy (a folder or Hub id) as the source of completions of 1 - `keep` prompts.

    `n` completions per prompt, by default as many as the first `sample` block of the version draws; `max_new_tokens`
    bounds them where there is no such block. The other prompts, always the same ones, keep the version's own sources.
    Raises RecipeError when no scorer can label new completions.
    """
    recipe = Recipe.model_validate(version.provenance["recipe"])
    written = recipe.model_dump(mode="json", exclude={"completions", "prompts", "policy", "sample", "score"})
    score = [scorer.model_dump(mode="json") for scorer in recipe.score if scorer.kind != "imported"]
    if not score:
        raise RecipeError(
            f"version {version.label} was labelled by imported ratings alone, expected a scorer that can label new "
            "completions: add a verifier, judge or reward model to its recipe and build it first"
        )
    new = _new_block(recipe, max_new_tokens) | ({} if n is None else {"n": n}) | {"prompt_share": [keep, 1.0]}
    return Recipe.model_validate(
        written
        | {
            "prompts": {"imported": version.content["recipe"]["source"], "limit": recipe.prompts.limit},
            "policy": {"model": policy},
            "sample": [*_kept_blocks(recipe, keep), new],
            "completions": _kept_completions(recipe.imported, keep),
            "score": score,
        }
    )


def regenerate(
    version: Version,
    workspace: Workspace,
    policy: str,
    n: int | None,
    max_new_tokens: int,
    progress: Progress,
    keep: float = 0.0,
) -> Built:
    """Builds the next version of the same name with the policy's own completions, with `version` as its parent."""
    recipe = regenerated_recipe(version, policy, n, max_new_tokens, keep)
    folder = Path(version.provenance["folder"])
    return build(recipe, workspace, folder, progress, parents=[version.label])


def _new_block(recipe: Recipe, max_new_tokens: int) -> _Block:
    if recipe.sample:
        return recipe.sample[0].model_dump(mode="json", exclude={"policy", "prompt_share"})
    return {"backend": "transformers", "n": N, "max_new_tokens": max_new_tokens}


def _kept_blocks(recipe: Recipe, keep: float) -> Sequence[_Block]:
    """The recipe's own blocks for the prompts that keep their completions, each with its own policy."""
    blocks: list[_Block] = []
    for block in recipe.sample:
        if share := below(block.prompt_share, keep):
            policy = block.policy or recipe.policy
            own: _Block = {"prompt_share": list(share), "policy": policy.model_dump(mode="json") if policy else None}
            blocks.append(cast(_Block, block.model_dump(mode="json")) | own)
    return blocks


def _kept_completions(imported: CompletionsConfig | None, keep: float) -> _Block | None:
    share = below(imported.prompt_share, keep) if imported else None
    return {**imported.model_dump(mode="json"), "prompt_share": list(share)} if imported and share else None
