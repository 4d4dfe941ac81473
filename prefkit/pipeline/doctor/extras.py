"""Optional packages that the recipe's stages need."""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prefkit.pipeline.doctor.examined import Examined
from prefkit.pipeline.doctor.findings import Finding, Severity
from prefkit.pipeline.recipe import Recipe
from prefkit.sampling.config import EndpointSampler, TransformersSampler, VllmSampler, VllmServerSampler
from prefkit.scoring.config import JudgeScorer, MathVerifier, RewardModelScorer, VllmRewardModelScorer


@dataclass(frozen=True, slots=True)
class Need:
    """A stage and the packages it imports, of an extra of ours."""

    stage: str
    modules: tuple[str, ...]
    extra: str


MODELS = ("torch", "transformers")
NEEDS_OF_SAMPLERS = {
    TransformersSampler: Need("sample backend 'transformers'", MODELS, "transformers"),
    VllmSampler: Need("sample backend 'vllm'", ("vllm",), "vllm"),
    VllmServerSampler: Need("sample backend 'vllm_server'", MODELS, "transformers"),
    EndpointSampler: Need("sample backend 'endpoint'", ("openai",), "judge"),
}
NEEDS_OF_SCORERS = {
    MathVerifier: Need("verifier 'math'", ("math_verify",), "verify"),
    RewardModelScorer: Need("score kind 'reward_model'", MODELS, "transformers"),
    VllmRewardModelScorer: Need("score kind 'vllm_reward_model'", ("vllm",), "vllm"),
    JudgeScorer: Need("score kind 'judge'", ("openai",), "judge"),
}
HUB = Need("prompts.hub", ("datasets", "huggingface_hub"), "train")
TRAIN = Need("train", ("trl",), "train")


def needs(recipe: Recipe) -> list[Need]:
    """What a build of the recipe imports beyond prefkit's own dependencies, each need once."""
    found = [HUB] if recipe.prompts.hub else []
    found += [need for block in recipe.sample for kind, need in NEEDS_OF_SAMPLERS.items() if isinstance(block, kind)]
    found += [need for entry in recipe.score for kind, need in NEEDS_OF_SCORERS.items() if isinstance(entry, kind)]
    return list(dict.fromkeys(found))


def missing_extras(seen: Examined) -> Iterator[Finding]:
    """Packages that are not installed: errors where a build needs them, a warning where training does."""
    yield from lacking(needs(seen.recipe), Severity.ERROR, installed)
    if seen.recipe.train is not None:
        yield from lacking([TRAIN], Severity.WARNING, installed)


def lacking(wanted: list[Need], severity: Severity, there: Callable[[str], bool]) -> Iterator[Finding]:
    """A finding for each need whose modules are not all there."""
    for need in wanted:
        absent = [module for module in need.modules if not there(module)]
        if absent:
            yield Finding(
                "extras", severity, f"{need.stage} needs {' and '.join(absent)}, which is not installed",
                f"pip install 'prefkit[{need.extra}]'",
            )  # fmt: skip


def installed(module: str) -> bool:
    """Whether a module can be imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # it is there and was not found the ordinary way
        return False
