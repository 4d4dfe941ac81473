"""`rebuild`: a version made once more from its own manifest, as proof that it is what its recipe and facts say.

No model, scorer, recipe file or prompt file is needed: the recipe, the identities of policies and scorers, and the pins
of the fact tables all stand in the manifest.
"""

from dataclasses import replace
from pathlib import Path
from typing import cast

from prefkit.pipeline.check.yardstick import Yardstick
from prefkit.pipeline.imports.content import imports_by_id
from prefkit.pipeline.labels import Labeller
from prefkit.pipeline.publish import write_files
from prefkit.pipeline.recipe import Recipe
from prefkit.pipeline.resolve import Resolved, block_of, placed_reference, yardstick_of
from prefkit.pipeline.stages import Stages
from prefkit.store.files import remove_tree
from prefkit.store.versions import Version
from prefkit.store.workspace import Workspace


def rebuild(version: Version, workspace: Workspace) -> list[str]:
    """Makes the version again from its pinned facts, in a draft that is removed, and names the files that differ."""
    with workspace.shared():
        stages = reading_stages(version, workspace)
        draft = workspace.versions.draft()
        try:
            entries = write_files(stages, stages.run(), draft)
        finally:
            remove_tree(draft)
    differing = [name for name in entries | version.files if entries.get(name) != version.files.get(name)]
    said = {"ledger": stages.ledger.to_json(), "shift": stages.shift}
    return differing + [name for name, value in said.items() if value != version.content[name]]


def reading_stages(version: Version, workspace: Workspace) -> Stages:
    """The stages of a version over the facts it pins; they compute nothing."""
    ids = [bytes.fromhex(i) for i in version.provenance["import_ids"]]
    imports = imports_by_id(workspace.facts, ids, version.pins["imports"])
    return Stages(recorded(version), workspace.facts, imports, dict(version.pins), maker=None)


def recorded(version: Version) -> Resolved:
    """The resolved recipe of a version, from its manifest alone."""
    content, ids = version.content["recipe"], version.provenance["config_ids"]
    recipe = Recipe.model_validate(version.provenance["recipe"])
    policies = [str(block["policy_id"]) for block in cast("list[dict[str, str]]", content["sample"])]
    blocks = tuple(
        replace(block_of(number, config, policy_id), sampler_id=sampler_id)
        for number, (config, policy_id, sampler_id) in enumerate(
            zip(recipe.sample, policies, ids["samplers"], strict=True)
        )
    )
    labellers = tuple(
        Labeller(scorer_id, config.aspects, config.repeats, tuple(sorted(config.reads)))
        for config, scorer_id in zip(recipe.score, ids["scorers"], strict=True)
    )
    folder = Path(version.provenance["folder"])
    return Resolved(recipe, folder, str(content["source"]), blocks, labellers, recorded_yardstick(version))


def recorded_yardstick(version: Version) -> Yardstick | None:
    """The check of a version from its manifest alone, where its recipe has one."""
    recipe = Recipe.model_validate(version.provenance["recipe"])
    if recipe.check is None:
        return None
    content = cast("dict[str, str]", version.content["recipe"]["check"])
    reference = placed_reference(recipe.check, recipe, Path(version.provenance["folder"]))
    return yardstick_of(recipe.check, recipe, reference, content["model_id"])
