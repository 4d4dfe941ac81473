"""`prefkit regenerate`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from prefkit.cli.build import rows_of
from prefkit.cli.console import count, say, say_json
from prefkit.cli.diff import show_diff
from prefkit.cli.options import AsJson, WorkspacePath, opened
from prefkit.cli.reporters import reporter
from prefkit.pipeline.checking import Checked, CheckOptions, check
from prefkit.pipeline.regenerating import regenerate as regenerated
from prefkit.shift.registry import Reference
from prefkit.store.diff import version_diff


def regenerate(
    label: str,
    /,
    *,
    policy: str,
    n: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    max_new_tokens: Annotated[int, Parameter(validator=Number(gte=1))] = 512,
    json: AsJson = False,
    workspace: WorkspacePath = None,
) -> None:
    """Build a version anew with another policy's completions: same prompts and scorers; shift before and after.

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
    json
        Print JSON.
    """
    target = opened(workspace)
    old = target.versions.get(label)
    model = str(Path(policy).resolve()) if Path(policy).exists() else policy
    options = CheckOptions(Reference(model), max_new_tokens=max_new_tokens)
    with reporter() as progress:
        new = regenerated(old, target, model, n, max_new_tokens, progress).version
        before, after = (check(version, target, options, progress) for version in (old, new))
    found = version_diff(old, new)
    if json:
        reports = {"before": before.report.to_json(), "after": after.report.to_json()}
        say_json({"version": new.label, "parents": [old.label], "diff": found.summary(), "shift": reports})
        return
    say(f"{new.label}, from {old.label}: {rows_of(new)}")
    show_diff(found)
    say()
    for version, checked in ((old, before), (new, after)):
        say(f"{version.label}: {_shift(checked)}")


def _shift(checked: Checked) -> str:
    sides = [f"{s.off_support.value:.1%} of {s.side} off-support" for s in checked.report.overall.sides]
    own = checked.report.overall
    return f"{', '.join(sides)} ({count(own.rows)} rows, {count(own.samples)} samples); {checked.report.verdict.kind}"
