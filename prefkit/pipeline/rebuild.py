"""`rebuild`: a version made once more from its own manifest, as proof that it is what its recipe and facts say.

No model, scorer, recipe file or prompt file is needed: the recipe, the identities of policies and scorers, and the pins
of the fact tables all stand in the manifest.
"""

from pathlib import Path

from prefkit.pipeline.draws import Block
from prefkit.pipeline.importing import import_by_id
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
        recipe = recorded(version)
        stages = Stages(recipe, workspace.facts, dict(version.pins), maker=None)
        imported = import_by_id(workspace.facts, bytes.fromhex(str(version.provenance["import_id"])), version.pins["imports"])
        draft = workspace.versions.draft()
        try:
            entries = write_files(stages, stages.run(imported), draft)
        finally:
            remove_tree(draft)
    differing = [name for name in entries | version.files if entries.get(name) != version.files.get(name)]
    return differing + (["ledger"] if stages.ledger.to_json() != version.content["ledger"] else [])


def recorded(version: Version) -> Resolved:
    """The resolved recipe of a version, from its manifest alone."""
    content, recipe = version.content["recipe"], Recipe.model_validate(version.provenance["recipe"])
    assert isinstance(content, dict)
    blocks = tuple(
        Block(number, block["policy_id"], 0, config.sampler_id, config.n)
        for number, (config, block) in enumerate(zip(recipe.sample, content["sample"], strict=True))
    )
    labellers = tuple(
        Labeller(entry["scorer_id"], config.aspects, config.repeats, tuple(sorted(config.reads)))
        for config, entry in zip(recipe.score, content["score"], strict=True)
    )
    return Resolved(recipe, Path(str(version.provenance["folder"])), str(content["source"]), blocks, labellers)
