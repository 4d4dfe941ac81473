"""`regenerate`: a version built anew with completions of another policy, on the same prompts and by the same scorers.

What cannot label new completions (imported ratings) is left out, so at least one scorer has to be left.
"""

from pathlib import Path

from prefkit.errors import RecipeError
from prefkit.identity import Json
from prefkit.pipeline.build import Built, build
from prefkit.pipeline.progress import Progress
from prefkit.pipeline.recipe import Recipe
from prefkit.store.versions import Version
from prefkit.store.workspace import Workspace

N = 8
"""Completions per prompt where the version's recipe draws none."""


def regenerated_recipe(version: Version, policy: str, n: int | None, max_new_tokens: int) -> Recipe:
    """The version's recipe with this policy (a folder or Hub id) in place of every other source of completions.

    `n` completions per prompt, by default as many as the first `sample` block of the version draws; `max_new_tokens`
    bounds them where there is no such block. Raises RecipeError when no scorer can label new completions.
    """
    recipe = Recipe.model_validate(version.provenance["recipe"])
    written = recipe.model_dump(mode="json", exclude={"completions", "prompts", "policy", "sample", "score"})
    score = [scorer.model_dump(mode="json") for scorer in recipe.score if scorer.kind != "imported"]
    if not score:
        raise RecipeError(
            f"version {version.label} was labelled by imported ratings alone, expected a scorer that can label new "
            "completions: add a verifier, judge or reward model to its recipe and build it first"
        )
    made: dict[str, Json] = {"backend": "transformers", "n": N, "max_new_tokens": max_new_tokens}
    block = recipe.sample[0].model_dump(mode="json", exclude={"policy"}) if recipe.sample else made
    limit = recipe.prompts.limit
    return Recipe.model_validate(
        written
        | {
            "prompts": {"imported": version.content["recipe"]["source"], "limit": limit},
            "policy": {"model": policy},
            "sample": block | ({} if n is None else {"n": n}),
            "score": score,
        }
    )


def regenerate(
    version: Version, workspace: Workspace, policy: str, n: int | None, max_new_tokens: int, progress: Progress
) -> Built:
    """Builds the next version of the same name from the policy's own completions, with `version` as its parent."""
    recipe = regenerated_recipe(version, policy, n, max_new_tokens)
    folder = Path(version.provenance["folder"])
    return build(recipe, workspace, folder, progress, parents=[version.label])
