"""From an entry of a recipe's `score` list to a scorer. Implementations are reached by name; none is imported unused.

`require_built` and `scorer_id` need neither a model nor an optional package: a build plans with them, and opens a
scorer only when something is missing.
"""

import importlib
from pathlib import Path
from typing import Protocol, cast

from prefkit.errors import NotBuiltError, RecipeError
from prefkit.identity import Json, config_id
from prefkit.scoring.config import PythonScorer, ScoreConfig
from prefkit.scoring.protocol import Scorer

SCORERS = {
    "MathVerifier": "prefkit.scoring.math:MathScorer",
    "ExactVerifier": "prefkit.scoring.rules:RuleScorer",
    "RegexVerifier": "prefkit.scoring.rules:RuleScorer",
    "LengthVerifier": "prefkit.scoring.rules:RuleScorer",
    "PythonScorer": "prefkit.scoring.python:PythonScorer",
    "FakeScorer": "prefkit.scoring.fake:FakeScorer",
}
"""Configuration class to implementation."""


class Implementation(Protocol):
    """What a registered name leads to: a scorer class that opens itself."""

    def open(self, config: ScoreConfig, folder: Path) -> Scorer:
        """A scorer that is ready; paths in the configuration are relative to `folder`."""
        ...


def require_built(config: ScoreConfig) -> None:
    """Raises NotBuiltError for a scorer this release does not have."""
    if type(config).__name__ not in SCORERS:
        raise NotBuiltError(
            f"score kind {config.kind!r} is not built yet, expected one of verifier, python, fake: leave it out"
        )


def scorer_identity(config: ScoreConfig, folder: Path) -> dict[str, Json]:
    """Everything that changes what a score means; for a python scorer without a revision, the digest of its source.

    Raises RecipeError when that source cannot be found. Opens nothing.
    """
    if isinstance(config, PythonScorer) and config.revision is None:
        from prefkit.scoring.python import source_digest

        return config.identity_values() | {"source": source_digest(config.path, folder)}
    return config.identity_values()


def scorer_id(config: ScoreConfig, folder: Path) -> int:
    """The id under which the scores of a recipe in `folder` are stored."""
    return config_id("scorer", scorer_identity(config, folder))


def open_scorer(config: ScoreConfig, folder: Path, planned: int | None = None) -> Scorer:
    """The scorer of an entry. `planned` is the `scorer_id` its scores will be stored under.

    Raises NotBuiltError, MissingExtraError or RecipeError, each in one line; also when the code of a python scorer was
    edited since it was planned.
    """
    require_built(config)
    module, _, name = SCORERS[type(config).__name__].partition(":")
    implementation = cast(Implementation, getattr(importlib.import_module(module), name))
    scorer = implementation.open(config, folder)
    if planned is not None and scorer_id(config, folder) != planned:
        raise RecipeError(f"score {config.aspects[0]!r} changed since this build was planned: run the build again")
    return scorer
