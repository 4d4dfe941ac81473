"""`prefkit build`."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, cast

from cyclopts import Parameter

from prefkit.cli.accounts import accounts_json, accounts_of, judge_lines
from prefkit.cli.console import count, counted, note, say, say_all, say_json, table
from prefkit.cli.ledger import ledger_table
from prefkit.cli.options import AsJson, WorkspacePath, opened
from prefkit.cli.reporters import reporter
from prefkit.cli.shift import gate_code, gate_lines, shift_lines
from prefkit.errors import RecipeError, suggestion
from prefkit.identity import Json
from prefkit.pipeline.build import Built
from prefkit.pipeline.build import build as built
from prefkit.pipeline.dry_run import DryRun, dry_run_of
from prefkit.pipeline.recipe_file import load_recipe
from prefkit.sampling.protocol import SampleFailureKind
from prefkit.scoring.protocol import ScoreFailureKind
from prefkit.store.runs import Runs
from prefkit.store.versions import Version
from prefkit.store.workspace import Workspace


def build(
    recipe: Path | None = None,
    /,
    *,
    set_: Annotated[list[str] | None, Parameter(name="--set")] = None,
    dry_run: bool = False,
    retry: list[str] | None = None,
    from_run: str | None = None,
    name: str | None = None,
    json: AsJson = False,
    workspace: WorkspacePath = None,
) -> int:
    """Build a recipe's dataset, computing only what is missing, and publish it as a new version if it differs.

    Exits with 1 when the recipe's check is crossed; the version is published all the same.

    Parameters
    ----------
    recipe
        A YAML file (see docs/recipe.md).
    set_
        Change a value of the recipe, as in sample.n=12 or score.0.repeats=2. May be repeated.
    dry_run
        Say what would be drawn and labelled, and write nothing.
    retry
        Try completions and labels again that failed for good in this way, as in unparsable. May be repeated.
    from_run
        Instead of a recipe: the rows that this run trained on become a version. No model is called.
    name
        Name of that version; by default the run's.
    json
        Print JSON.
    """
    if from_run is not None:
        _refuse_beside_run(recipe, set_, dry_run, retry)
        return _build_from_run(from_run, name, json, opened(workspace))
    if recipe is None:
        raise RecipeError("build got no recipe, expected a YAML file, or a run with --from-run")
    loaded = load_recipe(recipe, set_ or ())
    folder = recipe.resolve().parent
    _require_kinds(retry or ())
    target = opened(workspace)
    if dry_run:
        _show_plan(dry_run_of(loaded, target, folder, retry or ()), json)
        return 0
    with reporter() as progress:
        done = built(loaded, target, folder, progress, retry or ())
    _show_built(done, json)
    return gate_code(done.version)


def _refuse_beside_run(*given: object) -> None:
    if any(given):
        raise RecipeError("--from-run takes the recipe and the rows of the run, expected nothing but --name beside it")


def _build_from_run(run: str, name: str | None, json: bool, target: Workspace) -> int:
    from prefkit.pipeline.training.from_run import version_from_run

    version = version_from_run(Runs(target.root).get(run), name or run, target)
    if json:
        say_json({"version": version.label, "splits": version.splits, "ledger": accounts_json(accounts_of(version))})
        return 0
    say(f"{version.label}, from run {run}: {rows_of(version)}")
    say()
    say_all([ledger_table(accounts_of(version))])
    return 0


_DIGEST = re.compile(r"([0-9a-f]{12})[0-9a-f]{20}")
"""The digest in a policy id, of which 12 digits are enough to read."""


def _require_kinds(retry: Sequence[str]) -> None:
    known = sorted({*map(str, SampleFailureKind), *map(str, ScoreFailureKind)})
    for kind in retry:
        if kind not in known:
            raise RecipeError(f"--retry got {kind!r}, expected a kind of failure{suggestion(kind, known)}")


def _show_built(done: Built, json: bool) -> None:
    version = done.version
    if json:
        say_json(
            {
                "version": version.label, "new": done.new, "drawn": done.drawn, "labelled": done.labelled,
                "compared": done.compared, "own_samples": done.own_samples, "logps": done.logps,
                "shift": version.content["shift"], "crossed": cast("list[Json]", gate_lines(version)),
                "spent": {"tokens": done.spent.tokens, "usd": done.spent.usd},
                "splits": version.splits, "to_retry": version.content["to_retry"],
                "judges": cast("list[Json]", version.content["judges"]), "ledger": accounts_json(accounts_of(version)),
            }
        )  # fmt: skip
        return
    unchanged = "" if done.new else ", unchanged"
    compared = f", {count(done.compared)} compared" if done.compared else ""
    checked = f", {counted(done.own_samples, 'reference sample')}" if done.own_samples else ""
    checked += f", {counted(done.logps, 'log-prob')}" if done.logps else ""
    spent = f"; {count(done.spent.tokens)} tokens, {done.spent.usd:.4f} USD" if done.spent.tokens else ""
    made = f"{count(done.drawn)} drawn, {count(done.labelled)} labelled{compared}{checked}{spent}"
    say(f"{version.label}{unchanged}: {rows_of(version)}; {made}")
    say()
    say_all([ledger_table(accounts_of(version)), *judge_lines(version)])
    for line in shift_lines(version):
        say(line)
    if to_retry := version.content["to_retry"]:
        note(f"{to_retry} failed for a passing reason: the next build tries them again")


def rows_of(version: Version) -> str:
    """How many rows a version has, as in `212 pairs (201 train, 11 test)`."""
    noun = "pair" if version.content["kind"] == "pairs" else "completion"
    splits = ", ".join(f"{count(n)} {split}" for split, n in version.splits.items())
    return f"{counted(sum(version.splits.values()), noun)} ({splits})"


def _show_plan(plan: DryRun, json: bool) -> None:
    if json:
        say_json(plan.to_json())
        return
    say(f"{plan.name}: {counted(plan.prompts, 'prompt')} from {plan.source}; nothing was written")
    rows = [("draw", _DIGEST.sub(r"\1", d.what), d.planned, d.have, d.to_do) for d in plan.draws]
    bound = plan.labels_are_upper_bound
    rows += [("label", x.what, _most(x.planned, bound), x.have, _most(x.to_do, bound)) for x in plan.labels]
    rows += [("compare", x.what, _most(x.planned, bound), x.have, _most(x.to_do, bound)) for x in plan.comparisons]
    most = plan.checks_are_upper_bound
    rows += [("check", x.what, _most(x.planned, most), x.have, _most(x.to_do, most)) for x in plan.checks]
    say_all([table(["", "by", "planned", "have", "to do"], rows, right=["planned", "have", "to do"])])
    for forecast in plan.forecasts:
        usd = "" if forecast.usd is None else f", at most {forecast.usd:.2f} USD"
        tokens = f"about {count(forecast.input_tokens)} tokens in, at most {count(forecast.output_tokens)} out"
        say(f"{forecast.what}: {counted(forecast.calls, 'call')}, {tokens}{usd}")
    if bound:
        say("<= : an upper bound, since hygiene may drop completions that are not drawn yet")
    elif most:
        say("<= : an upper bound, since it is not known yet which rows will be chosen")


def _most(number: int, bound: bool) -> str:
    return f"<= {count(number)}" if bound else count(number)
