"""A recipe with every name replaced by what it stands for: policies by digests of their weights, scorers by config ids.

Two recipes with the same resolved content make the same version of the same facts. Paths, devices and batch sizes are
not in it; the recipe as it was written is kept beside the version, outside its hash.
"""

from dataclasses import dataclass
from pathlib import Path

from prefkit.errors import NotBuiltError, RecipeError
from prefkit.identity import Json, content_id
from prefkit.pipeline.comparing import Judge
from prefkit.pipeline.draws import Block
from prefkit.pipeline.labels import Labeller
from prefkit.pipeline.recipe import Recipe
from prefkit.sampling.config import PolicyConfig, SampleConfig
from prefkit.sampling.registry import resolve_policy_id
from prefkit.scoring.config import ImportedScorer, PairwiseJudgeScorer
from prefkit.scoring.registry import scorer_id
from prefkit.sources.hub import hub_name


@dataclass(frozen=True, slots=True)
class Resolved:
    """A recipe ready to be planned; `blocks` and `labellers` stand in the order of its `sample` and `score`."""

    recipe: Recipe
    folder: Path
    """What the recipe's relative paths start from."""
    source: str
    blocks: tuple[Block, ...]
    labellers: tuple[Labeller, ...]

    @property
    def made(self) -> tuple[Labeller, ...]:
        """The labellers whose labels a build computes; those of imported scorers are there or not."""
        return tuple(
            x
            for c, x in zip(self.recipe.score, self.labellers, strict=True)
            if not isinstance(c, ImportedScorer | PairwiseJudgeScorer)
        )

    @property
    def judges(self) -> tuple[Judge, ...]:
        """The pairwise judges of the recipe."""
        both = zip(self.recipe.score, self.labellers, strict=True)
        return tuple(Judge(c, x.scorer_id) for c, x in both if isinstance(c, PairwiseJudgeScorer))

    def content(self) -> dict[str, Json]:
        """What decides the content of a version, as plain data."""
        recipe = self.recipe.model_dump(mode="json")
        imported = self.recipe.imported
        return {
            "source": self.source,
            "limit": self.recipe.prompts.limit,
            "completions": imported.model_dump(mode="json") if imported else None,
            "sample": [
                config.identity_values() | {"n": config.n, "policy_id": block.policy_id}
                for config, block in zip(self.recipe.sample, self.blocks, strict=True)
            ],
            "score": [
                config.identity_values() | {"scorer_id": x.scorer_id, "repeats": x.repeats, "aspects": list(x.aspects)}
                for config, x in zip(self.recipe.score, self.labellers, strict=True)
            ],
            **{block: recipe[block] for block in ("aggregate", "select", "hygiene", "split")},
        }

    @property
    def fingerprint(self) -> str:
        """32 hex digits over the content."""
        return content_id("recipe", self.content()).hex()


def resolved(recipe: Recipe, folder: Path, cache: Path | None = None) -> Resolved:
    """The recipe with its policies and scorers identified; `cache` remembers digests of large files.

    Raises NotBuiltError for a stage this release does not have, before anything runs.
    """
    _require_built_stages(recipe)
    blocks = tuple(
        Block(number, resolve_policy_id(*_placed(config, recipe.policy, folder), cache), 0, config.sampler_id, config.n)
        for number, config in enumerate(recipe.sample)
    )
    if len({(b.policy_id, b.sampler_id) for b in blocks}) < len(blocks):
        raise RecipeError(
            "sample has two blocks that draw the same completions, expected different ones: "
            "change the seed of one, or raise n"
        )
    labellers = tuple(
        Labeller(scorer_id(c, folder, cache), c.aspects, c.repeats, tuple(sorted(c.reads))) for c in recipe.score
    )
    return Resolved(recipe, folder, source_name(recipe), blocks, labellers)


def source_name(recipe: Recipe) -> str:
    """The name under which the recipe's prompts are kept: as imported, or the stem of the file or dataset."""
    prompts = recipe.prompts
    return prompts.imported or stem(prompts.hub or str(prompts.path))


def stem(file: str) -> str:
    """The name of a file without its endings, or of a Hub dataset without its owner."""
    hub = hub_name(file)
    return hub.repo.split("/")[1] if hub else Path(file).name.split(".")[0]


def prompts_file(recipe: Recipe, folder: Path) -> Path:
    """Where the recipe's prompts are read from: a file, or a dataset of the Hub as `read_rows` spells it."""
    return Path(recipe.prompts.hub) if recipe.prompts.hub else folder / str(recipe.prompts.path)


def placed_policy(policy: PolicyConfig | None, folder: Path) -> PolicyConfig | None:
    """The policy with a relative model folder made absolute, where there is such a folder."""
    if policy and (folder / policy.model).exists():
        return policy.model_copy(update={"model": str((folder / policy.model).resolve())})
    return policy


def _placed(
    config: SampleConfig, policy: PolicyConfig | None, folder: Path
) -> tuple[SampleConfig, PolicyConfig | None]:
    return config.model_copy(update={"policy": placed_policy(config.policy, folder)}), placed_policy(policy, folder)


def _require_built_stages(recipe: Recipe) -> None:
    missing = {
        "check": recipe.check,
    }
    for name, block in missing.items():
        if block is not None:
            raise NotBuiltError(
                f"the recipe asks for `{name}`, which this release cannot run yet: take it out of {recipe.name}"
            )
