"""`prefkit regenerate`."""

from pathlib import Path
from typing import Annotated, cast

from cyclopts import Parameter
from cyclopts.validators import Number

from prefkit.cli.build import rows_of
from prefkit.cli.check import asked_yardstick
from prefkit.cli.console import count, say, say_json
from prefkit.cli.diff import show_diff
from prefkit.cli.options import AsJson, WorkspacePath, opened
from prefkit.cli.reporters import reporter
from prefkit.cli.shift import gate_code, gate_lines
from prefkit.identity import Json
from prefkit.pipeline.check.checking import check
from prefkit.pipeline.check.stage import Checked
from prefkit.pipeline.regenerating import regenerate as regenerated
from prefkit.store.diff import version_diff


def regenerate(
    label: str,
    /,
    *,
    policy: str,
    n: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    max_new_tokens: Annotated[int, Parameter(validator=Number(gte=1))] = 512,
    keep: Annotated[float, Parameter(validator=Number(gte=0, lt=1))] = 0.0,
    json: AsJson = False,
    workspace: WorkspacePath = None,
) -> int:
    """Build a version anew with another policy's completions: same prompts and scorers; shift before and after.

    Exits with 1 when the new version crosses the recipe's check.

    Parameters
    ----------
    label
        A version (name@v2), a tag, or a name for its newest version.
    policy
        The model whose completions replace the version's: a folder or a Hub id.
    n
        Completions per prompt. By default as many as the version's recipe draws, or 8.
    max_new_tokens
        Longest completion, where the version's recipe does not say, and longest sample that the shift is measured by.
    keep
        The share of the prompts, always the same ones, whose completions stay the version's own, as in 0.5.
    json
        Print JSON.
    """
    target = opened(workspace)
    old = target.versions.get(label)
    model = str(Path(policy).resolve()) if Path(policy).exists() else policy
    with reporter() as progress:
        new = regenerated(old, target, model, n, max_new_tokens, progress, keep).version
        yardstick = asked_yardstick(new, target, {"reference": model})
        before, after = (check(version, target, yardstick, progress) for version in (old, new))
    found = version_diff(old, new)
    if json:
        reports = {"before": before.report.to_json(), "after": after.report.to_json()}
        crossed = cast("list[Json]", gate_lines(new))
        told = {"parents": [old.label], "diff": found.summary(), "shift": reports, "crossed": crossed}
        say_json({"version": new.label, **told})
        return gate_code(new)
    say(f"{new.label}, from {old.label}: {rows_of(new)}")
    show_diff(found)
    say()
    for version, checked in ((old, before), (new, after)):
        say(f"{version.label}: {_shift(checked)}")
    for line in gate_lines(new):
        say(line)
    return gate_code(new)


def _shift(checked: Checked) -> str:
    sides = [f"{s.off_support.value:.1%} of {s.side} off-support" for s in checked.report.overall.sides]
    own = checked.report.overall
    return f"{', '.join(sides)} ({count(own.rows)} rows, {count(own.samples)} samples); {checked.report.verdict.kind}"
