"""`rebuild`: a version made once more from its own manifest, as proof that it is what its recipe and facts say.

No model, scorer, recipe file or prompt file is needed: the recipe, the identities of policies and scorers, and the pins
of the fact tables all stand in the manifest.
"""

from pathlib import Path
from typing import cast

from prefkit.pipeline.draws import Block
from prefkit.pipeline.imports import imports_by_id
from prefkit.pipeline.labels import Labeller
from prefkit.pipeline.publish import write_files
from prefkit.pipeline.recipe import Recipe
from prefkit.pipeline.resolve import Resolved
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
    return differing + (["ledger"] if stages.ledger.to_json() != version.content["ledger"] else [])


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
        Block(number, policy_id, 0, sampler_id, config.n)
        for number, (config, policy_id, sampler_id) in enumerate(
            zip(recipe.sample, policies, ids["samplers"], strict=True)
        )
    )
    labellers = tuple(
        Labeller(scorer_id, config.aspects, config.repeats, tuple(sorted(config.reads)))
        for config, scorer_id in zip(recipe.score, ids["scorers"], strict=True)
    )
    return Resolved(recipe, Path(version.provenance["folder"]), str(content["source"]), blocks, labellers)
