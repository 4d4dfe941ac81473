"""How good a policy is on the problems that a recipe holds out, beside the start it came from."""

from dataclasses import dataclass
from pathlib import Path

from online_policy import Problem

from prefkit.pipeline.evaluation.evaluating import EvaluationAsked, evaluate
from prefkit.pipeline.evaluation.report import Evaluation
from prefkit.pipeline.progress import Silent
from prefkit.pipeline.recipe import Recipe
from prefkit.pipeline.resolve import resolved
from prefkit.pipeline.rows import TEST
from prefkit.pipeline.training.running import split_tasks
from prefkit.shift.bootstrap import Estimate
from prefkit.store.workspace import Workspace

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Measured:
    """What an evaluation says; shares of right answers are of held-out problems."""

    held_out: int
    start: float
    """The start policy's share of right answers, drawn at T = 1."""
    accuracy: float
    """The trained policy's."""
    start_greedy: float
    greedy: float
    """The same with the most likely token every time."""
    kl: float
    """From the trained policy to the start, per completion, in nats."""
    tokens: float
    """Mean length of a completion, its end included."""


def held_out_problems(recipe: Recipe, workspace: Workspace) -> list[Problem]:
    """What the recipe holds out."""
    target = resolved(recipe, HERE, workspace.policy_cache)
    questions = split_tasks(target, workspace, TEST)["messages"].to_list()
    return [Problem(*map(int, messages[-1]["content"].split("+"))) for messages in questions]


def measured(recipe: Recipe, policy: str, workspace: Workspace, n: int) -> Measured:
    """Of `policy`, a run or a model folder, with `n` draws a problem. What the workspace knows is not drawn again."""
    drawn = _evaluation(recipe, policy, workspace, temperature=1.0, n=n)
    greedy = _evaluation(recipe, policy, workspace, temperature=0.0, n=1)
    moved = drawn.overall.divergence["policy"]
    assert moved is not None
    return Measured(
        held_out=drawn.held_out,
        start=_value(drawn.overall.reward.baseline),
        accuracy=_value(drawn.overall.reward.policy),
        start_greedy=_value(greedy.overall.reward.baseline),
        greedy=_value(greedy.overall.reward.policy),
        kl=moved.k1.value,
        tokens=_value(drawn.overall.tokens.policy),
    )


def _evaluation(recipe: Recipe, policy: str, workspace: Workspace, temperature: float, n: int) -> Evaluation:
    [block] = recipe.sample
    drawn = recipe.model_copy(update={"sample": (block.model_copy(update={"temperature": temperature}),)})
    return evaluate(EvaluationAsked(drawn, HERE, policy, n=n), workspace, Silent())


def _value(estimate: Estimate | None) -> float:
    assert estimate is not None
    return estimate.value
