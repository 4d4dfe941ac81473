"""From an entry of a recipe's `score` list to a scorer. Implementations are reached by name; none is imported unused.

`scorer_id` needs neither a model nor an optional package: a build plans with it, and opens a scorer only
when something is missing.
"""

import importlib
from pathlib import Path
from typing import Protocol, cast

from prefkit.errors import MissingExtraError, RecipeError
from prefkit.identity import Json, config_id
from prefkit.scoring.config import (
    AspectJudgeScorer,
    JudgeScorer,
    PairwiseJudgeScorer,
    PythonScorer,
    RewardModelBase,
    ScoreConfig,
)
from prefkit.scoring.judge.identity import judge_identity
from prefkit.scoring.protocol import Comparer, Scorer
from prefkit.spending import Budget

SCORERS = {
    "MathVerifier": "prefkit.scoring.math:MathScorer",
    "ExactVerifier": "prefkit.scoring.rules:RuleScorer",
    "RegexVerifier": "prefkit.scoring.rules:RuleScorer",
    "LengthVerifier": "prefkit.scoring.rules:RuleScorer",
    "PythonScorer": "prefkit.scoring.python:PythonScorer",
    "FakeScorer": "prefkit.scoring.fake:FakeScorer",
    "RewardModelScorer": "prefkit.engines.reward_model:RewardModel",
    "VllmRewardModelScorer": "prefkit.engines.vllm.reward_model:VllmRewardModel",
}
"""Configuration class to implementation."""


class Implementation(Protocol):
    """What a registered name leads to: a scorer class that opens itself."""

    def open(self, config: ScoreConfig, folder: Path) -> Scorer:
        """A scorer that is ready; paths in the configuration are relative to `folder`."""
        ...


def scorer_identity(config: ScoreConfig, folder: Path, cache: Path | None = None) -> dict[str, Json]:
    """Everything that changes what a score means: also the digest of a python scorer's source when it has no revision,
    and that of a reward model's files, which `cache` remembers.

    Raises RecipeError or SourceError when they cannot be found. Opens nothing.
    """
    if isinstance(config, JudgeScorer):
        return judge_identity(config, folder)
    if isinstance(config, PythonScorer) and config.revision is None:
        from prefkit.scoring.python import source_digest

        return config.identity_values() | {"source": source_digest(config.path, folder)}
    if isinstance(config, RewardModelBase):
        from prefkit.scoring.reward_model import weights_id

        return config.identity_values() | {"weights": weights_id(config, folder, cache)}
    return config.identity_values()


def scorer_id(config: ScoreConfig, folder: Path, cache: Path | None = None) -> int:
    """The id under which the scores of a recipe in `folder` are stored; `cache` as in `scorer_identity`."""
    return config_id("scorer", scorer_identity(config, folder, cache))


def open_scorer(
    config: ScoreConfig,
    folder: Path,
    planned: int | None = None,
    budget: Budget | None = None,
    cache: Path | None = None,
    batches: Path | None = None,
) -> Scorer:
    """The scorer of an entry. `planned` is the `scorer_id` its scores will be stored under; `budget` limits its calls,
    and a judge remembers the batches it submits in the folder `batches`, which `transport: batch` needs.

    Raises MissingExtraError, SourceError or RecipeError, each in one line; also when the code of a
    python scorer was edited since it was planned, or the weights of a reward model.
    """
    if isinstance(config, AspectJudgeScorer):
        from prefkit.scoring.judge.opening import aspect_judge

        return aspect_judge(config, folder, planned or scorer_id(config, folder), budget or Budget(), batches)
    scorer = _implementation(config).open(config, folder)
    if planned is not None and scorer_id(config, folder, cache) != planned:
        raise RecipeError(f"score {config.aspects[0]!r} changed since this build was planned: run the build again")
    return scorer


def open_comparer(config: PairwiseJudgeScorer, folder: Path, planned: int, budget: Budget, batches: Path) -> Comparer:
    """The pairwise judge of an entry; parameters and errors as in `open_scorer`."""
    from prefkit.scoring.judge.opening import pairwise_judge

    return pairwise_judge(config, folder, planned, budget, batches)


def _implementation(config: ScoreConfig) -> Implementation:
    module, _, name = SCORERS[type(config).__name__].partition(":")
    try:
        return cast(Implementation, getattr(importlib.import_module(module), name))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("prefkit"):
            raise
        raise MissingExtraError(
            f"score kind {config.kind!r} needs {error.name}, which is not installed: "
            "pip install 'prefkit[transformers]'"
        ) from None
