"""What two judges must share for their verdicts to mean the same."""

from pathlib import Path

from prefkit.identity import Json
from prefkit.scoring.config import AspectJudgeScorer, JudgeScorer
from prefkit.scoring.judge.asking import WORDING
from prefkit.scoring.judge.rubric import Aspect, rubric_of


def judge_identity(config: JudgeScorer, folder: Path) -> dict[str, Json]:
    """The judge's own identity with the content of its rubric and the wording of its questions.

    Which aspects a recipe asks for is no part of it, unless they are asked about together. Raises RecipeError for a
    rubric in `folder` that cannot be read.
    """
    rubric = rubric_of(config.rubric, folder)
    together: dict[str, Json] = {}
    if isinstance(config, AspectJudgeScorer) and config.calls == "together":
        together = {"together": list(config.aspects)}
    return config.identity_values() | {"rubric": rubric.digest, "wording": WORDING} | together


def judged_aspects(config: JudgeScorer, folder: Path) -> tuple[Aspect, ...]:
    """The aspects a judge is asked about. Raises RecipeError for a rubric in `folder` that does not have them."""
    return rubric_of(config.rubric, folder).chosen(config.aspects, config.rubric)


def call_groups(config: AspectJudgeScorer, folder: Path) -> list[tuple[Aspect, ...]]:
    """The same aspects, by the call that asks about them."""
    aspects = judged_aspects(config, folder)
    return [aspects] if config.calls == "together" else [(aspect,) for aspect in aspects]
