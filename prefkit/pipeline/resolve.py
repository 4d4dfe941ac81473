"""A recipe with every name replaced by what it stands for: policies by digests of their weights, scorers by config ids.

Two recipes with the same resolved content make the same version of the same facts. Paths, devices and batch sizes are
not in it; the recipe as it was written is kept beside the version, outside its hash.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from prefkit.errors import RecipeError
from prefkit.identity import Json, content_id
from prefkit.pipeline.check.behind_system import system_of
from prefkit.pipeline.check.yardstick import MAX_NEW_TOKENS, Yardstick
from prefkit.pipeline.comparing import Judge
from prefkit.pipeline.draws import Block
from prefkit.pipeline.labels import Labeller
from prefkit.pipeline.prompt_shares import overlap
from prefkit.pipeline.recipe import POLICY, CheckConfig, Recipe
from prefkit.sampling.config import PolicyConfig, SampleConfig
from prefkit.sampling.registry import resolve_policy_id
from prefkit.scoring.config import ImportedScorer, PairwiseJudgeScorer
from prefkit.scoring.registry import scorer_id
from prefkit.shift.registry import Reference, reference_id
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
    yardstick: Yardstick | None
    """Of the recipe's check, where it has one."""

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
                config.identity_values()
                | {"n": config.n, "policy_id": block.policy_id, "prompt_share": list(config.prompt_share)}
                for config, block in zip(self.recipe.sample, self.blocks, strict=True)
            ],
            "score": [
                config.identity_values() | config.asked | {"scorer_id": x.scorer_id, "aspects": list(x.aspects)}
                for config, x in zip(self.recipe.score, self.labellers, strict=True)
            ],
            **{block: recipe[block] for block in ("aggregate", "select", "hygiene", "split")},
            "check": self.yardstick.content() if self.yardstick else None,
        }

    @property
    def fingerprint(self) -> str:
        """32 hex digits over the content."""
        return content_id("recipe", self.content()).hex()


def resolved(recipe: Recipe, folder: Path, cache: Path | None = None) -> Resolved:
    """The recipe with its policies and scorers identified; `cache` remembers digests of large files."""
    blocks = tuple(
        block_of(number, config, resolve_policy_id(*_placed(config, recipe.policy, folder), cache))
        for number, config in enumerate(recipe.sample)
    )
    _require_different_draws(blocks)
    _require_baselines(recipe)
    labellers = tuple(
        Labeller(scorer_id(c, folder, cache), c.aspects, c.repeats, tuple(sorted(c.reads))) for c in recipe.score
    )
    yardstick = resolved_check(recipe.check, recipe, folder, cache) if recipe.check else None
    return Resolved(recipe, folder, source_name(recipe), blocks, labellers, yardstick)


def block_of(number: int, config: SampleConfig, policy_id: str) -> Block:
    """A `sample` block that draws from these weights."""
    return Block(number, policy_id, 0, config.sampler_id, config.n, prompt_share=config.prompt_share)


def resolved_check(config: CheckConfig, recipe: Recipe, folder: Path, cache: Path | None = None) -> Yardstick:
    """The check of a version of the recipe with its reference identified. Raises SourceError for what is no model."""
    reference = placed_reference(config, recipe, folder)
    return yardstick_of(config, recipe, reference, reference_id(reference, cache))


def yardstick_of(config: CheckConfig, recipe: Recipe, reference: Reference, model_id: str) -> Yardstick:
    """The check by a reference whose id is known."""
    longest = config.max_new_tokens or (recipe.sample[0].max_new_tokens if recipe.sample else MAX_NEW_TOKENS)
    return Yardstick(config.model_copy(update={"max_new_tokens": longest}), reference, model_id, system_of(recipe))


def placed_reference(config: CheckConfig, recipe: Recipe, folder: Path) -> Reference:
    """Where the reference of a check lies and how it is run."""
    named = recipe.policy if config.reference == POLICY else None
    policy = placed_policy(named or PolicyConfig(model=config.reference, revision=config.revision), folder)
    assert policy is not None
    return Reference(
        policy.model, policy.revision, config.dtype, config.device, policy.trust_remote_code, config.backend
    )


def _require_different_draws(blocks: Sequence[Block]) -> None:
    for one, other in combinations(blocks, 2):
        same = (one.policy_id, one.sampler_id) == (other.policy_id, other.sampler_id)
        if same and overlap(one.prompt_share, other.prompt_share):
            raise RecipeError(
                "sample has two blocks that draw the same completions, expected different ones: "
                "change the seed of one, or raise n"
            )


def _require_baselines(recipe: Recipe) -> None:
    for number, config in enumerate(recipe.score):
        against = config.against if isinstance(config, PairwiseJudgeScorer) else None
        if isinstance(against, int) and against >= len(recipe.sample):
            raise RecipeError(
                f"score[{number}].against is {against} and the recipe has {len(recipe.sample)} `sample` blocks, "
                "expected a lower number: correct it, or name an imported model"
            )


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
