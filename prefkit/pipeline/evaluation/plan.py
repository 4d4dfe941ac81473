"""What an evaluation asks for, written as a recipe: both policies as `sample` blocks, the recipe's own scorers, and the
start as the reference of their log-probs.

Nothing is dropped on the way: a repeated, empty or cut completion is what the policy writes, and counts.
"""

from collections.abc import Sequence
from typing import Literal

from prefkit.errors import RecipeError
from prefkit.hygiene.config import HygieneConfig
from prefkit.pipeline.recipe import POLICY, CheckConfig, Recipe
from prefkit.sampling.config import WHOLE, PolicyConfig, SampleConfig, TransformersSampler, VllmSampler
from prefkit.scoring.config import ImportedScorer, PairwiseJudgeScorer, ScoreConfig, VerifierConfig
from prefkit.selection.aggregation import named_aspects

LOADING = ("transformers", "vllm", "vllm_server")
"""Backends that sample from the weights they are given, with their log-probs."""
WHOLE_TEXTS = 2**31 - 1
"""The longest prompt and completion: none is cut."""
AS_WRITTEN = HygieneConfig(
    empty=False, duplicates="off", mojibake=False, leaked_tokens=False, constant=None, truncated=False
)


def evaluation_recipe(recipe: Recipe, policies: Sequence[PolicyConfig], n: int) -> Recipe:
    """The recipe with a `sample` block of `n` completions for each of these policies.

    Raises RecipeError when it has no sampler that can be given weights, or no scorer for new completions.
    """
    own = _own_block(recipe)
    blocks = [own.model_copy(update={"policy": policy, "n": n, "prompt_share": WHOLE}) for policy in policies]
    return recipe.model_copy(
        update={
            "sample": tuple(blocks),
            "completions": None,
            "score": _scorers(recipe),
            "hygiene": AS_WRITTEN,
            "check": _reference(own),
        }
    )


def left_out(recipe: Recipe) -> list[str]:
    """The aspects that were imported: nobody can say them of new completions."""
    return [aspect for scorer in recipe.score if isinstance(scorer, ImportedScorer) for aspect in scorer.aspects]


def scored_aspects(recipe: Recipe) -> dict[str, bool]:
    """The aspects that single completions are scored by, and whether each is 0 or 1 by a rule."""
    return {
        aspect: isinstance(scorer, VerifierConfig)
        for scorer in recipe.score
        if not isinstance(scorer, PairwiseJudgeScorer | ImportedScorer)
        for aspect in scorer.aspects
    }


def plain(config: SampleConfig) -> bool:
    """Whether completions are drawn from the policy itself, not from a sharper version of it."""
    return config.temperature == 1 and config.top_p == 1 and config.top_k is None


def _own_block(recipe: Recipe) -> SampleConfig:
    own = next((block for block in recipe.sample if block.policy is None), None)
    if own is None:
        raise RecipeError(
            f"recipe {recipe.name} has no `sample` block without its own `policy`, expected one: its settings are how "
            "policies are evaluated; add it"
        )
    if own.backend not in LOADING:
        raise RecipeError(
            f"sample backend {own.backend!r} cannot be given the weights of a policy, expected one of "
            f"{', '.join(LOADING)}: change `sample.backend`"
        )
    return own


def _scorers(recipe: Recipe) -> tuple[ScoreConfig, ...]:
    scorers = tuple(_asked(scorer) for scorer in recipe.score if not isinstance(scorer, ImportedScorer))
    if not scorers:
        raise RecipeError(
            f"recipe {recipe.name} has only imported scorers ({', '.join(left_out(recipe))}), expected one that can "
            "label new completions: add a verifier, judge or reward model"
        )
    missing = sorted(named_aspects(recipe.aggregate) & set(left_out(recipe)))
    if missing:
        raise RecipeError(
            f"aggregate names {missing[0]!r}, which was imported, expected aspects that can be said of new "
            "completions: take it out of `aggregate`"
        )
    return scorers


def _asked(scorer: ScoreConfig) -> ScoreConfig:
    """A pairwise judge compares policy and baseline, each pair in both orders."""
    if isinstance(scorer, PairwiseJudgeScorer):
        return scorer.model_copy(update={"against": None, "orders": "both"})
    return scorer


def _reference(own: SampleConfig) -> CheckConfig:
    """How the start gives log-probs: in the number format that the policies sample in."""
    backend: Literal["transformers", "vllm"] = "vllm" if isinstance(own, VllmSampler) else "transformers"
    device = own.device if isinstance(own, TransformersSampler) else "auto"
    return CheckConfig.model_validate(
        {
            "reference": POLICY, "dtype": own.dtype, "backend": backend, "device": device, "max_length": WHOLE_TEXTS,
        }
    )  # fmt: skip
