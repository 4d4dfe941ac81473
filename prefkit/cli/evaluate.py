"""`prefkit eval`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from prefkit.cli.console import count, counted, harmless, note, say, say_json
from prefkit.cli.options import AsJson, WorkspacePath, opened
from prefkit.cli.reporters import reporter
from prefkit.pipeline.evaluation.evaluating import EvaluationAsked, evaluate
from prefkit.pipeline.evaluation.report import Computed, Evaluation
from prefkit.pipeline.evaluation.statistics import BASELINE, POLICY, Compared, Divergence, Scope, Wins
from prefkit.pipeline.recipe_file import load_recipe
from prefkit.shift.bootstrap import Estimate
from prefkit.shift.rendering import aligned_lines, number, percent

_Whole = Annotated[int, Parameter(validator=Number(gte=1))]
Cells = tuple[str, str, str, str]
"""A line of the table: what it is, of the policy, of the baseline, and the difference."""
Shown = Callable[[Estimate | None], str]


def evaluation(
    recipe: Path,
    /,
    *,
    policy: str,
    against: str = "start",
    n: _Whole = 4,
    limit: _Whole | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set")] = None,
    json: AsJson = False,
    workspace: WorkspacePath = None,
) -> None:
    """Compare a policy with a baseline on the prompts that the recipe holds out, by the recipe's own scorers.

    Intervals are 95 %, by prompt. Completions, scores and log-probs are kept: a second time nothing is computed.

    Parameters
    ----------
    recipe
        A recipe file with a test split. Both sides sample as its first `sample` block says.
    policy
        A run that has ended, a model folder, a Hub id, or `start`: the recipe's own policy.
    against
        The baseline, likewise.
    n
        Completions per prompt, of each side.
    limit
        Use only this many of the held-out prompts (the same ones every time).
    set_
        Change a value of the recipe, as in `--set sample.temperature=1`; may be repeated.
    json
        Print JSON.
    """
    target = opened(workspace)
    asked = EvaluationAsked(load_recipe(recipe, set_ or ()), recipe.resolve().parent, policy, against, n, limit)
    with reporter() as progress:
        found = evaluate(asked, target, progress)
    if json:
        say_json(found.to_json())
        return
    say(
        f"{found.policy.name} against {found.baseline.name}: {counted(found.held_out, 'held-out prompt')}, "
        f"{counted(found.n, 'completion')} of each"
    )
    say()
    for line in [*_numbers(found), *_sources(found), "", *_lines(found)]:
        say(harmless(line))
    if found.computed.to_retry:
        note(f"{found.computed.to_retry} failed for a passing reason: the next evaluation tries them again")


def _numbers(found: Evaluation) -> list[str]:
    """Every mean of both sides, a line each."""
    scope = found.overall
    rows = [_means("reward", scope.reward, number)] if scope.reward.policy or scope.reward.baseline else []
    for aspect, means in scope.aspects.items():
        accuracy = aspect in found.accuracies
        rows.append(_means(f"{aspect}, accuracy" if accuracy else aspect, means, percent if accuracy else number))
    rows.append(_means("tokens", scope.tokens, number))
    rows += [_means(name, means, percent) for name, means in _defects(scope).items()]
    rows += _divergences(scope.divergence, found.plain)
    return aligned_lines([("", found.policy.name, found.baseline.name, "difference"), *rows])


def _means(name: str, means: Compared, shown: Shown) -> Cells:
    return name, shown(means.policy), shown(means.baseline), shown(means.difference)


def _defects(scope: Scope) -> Mapping[str, Compared]:
    """Shares of the draws that went wrong, but those of which none did."""
    every = {"failed": scope.failed, "cut": scope.cut, "without a score": scope.unlabelled}
    return {name: means for name, means in every.items() if any(s and s.value for s in (means.policy, means.baseline))}


def _divergences(sides: Mapping[str, Divergence | None], plain: bool) -> list[Cells]:
    policy, baseline = sides[POLICY], sides[BASELINE]
    if policy is None and baseline is None:
        return []
    name = "KL from the start" if plain else "log-ratio to the start"
    return [
        (f"{name} (nats), k1", number(policy and policy.k1), number(baseline and baseline.k1), ""),
        ("  k3", number(policy and policy.k3), number(baseline and baseline.k3), ""),
        ("  per token", number(policy and policy.per_token), number(baseline and baseline.per_token), ""),
    ]


def _sources(found: Evaluation) -> list[str]:
    """The reward and who wins, of each source; nothing of a single one."""
    if not found.sources:
        return []
    rows = [
        (*_means(name, of.reward, number), percent(of.wins and of.wins.rate), count(of.prompts))
        for name, of in found.sources.items()
    ]
    head = ("reward by source", found.policy.name, found.baseline.name, "difference", "win rate", "prompts")
    return ["", *aligned_lines([head, *rows])]


def _lines(found: Evaluation) -> list[str]:
    lines = [_won(found.overall.wins, found.decided_by), _made(found.computed)]
    if found.left_out:
        lines.insert(1, f"left out, since it was imported: {', '.join(found.left_out)}")
    if not found.plain and found.overall.divergence[POLICY]:
        lines.insert(
            1,
            "the log-ratio is a mean over what was sampled, which is the policy sharpened, and no KL of the policy: "
            "for that, sample at temperature 1, with top_p 1 and no top_k",
        )
    return lines


def _won(wins: Wins | None, by: str) -> str:
    if wins is None:
        return f"win rate: unknown, no match was decided by {by}"
    of = f"{count(wins.wins)} won, {count(wins.ties)} tied, {count(wins.losses)} lost by {by}"
    return f"win rate {percent(wins.rate)}: {of}" + (f", {count(wins.unknown)} undecided" if wins.unknown else "")


def _made(computed: Computed) -> str:
    spent = computed.spent
    compared = f", {count(computed.compared)} compared" if computed.compared else ""
    money = f"; {count(spent.tokens)} tokens, {spent.usd:.4f} USD" if spent.tokens else ""
    made = f"{count(computed.drawn)} drawn, {count(computed.labelled)} labelled{compared}"
    return f"{made}, {counted(computed.logps, 'log-prob')}{money}"
