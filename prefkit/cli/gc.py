"""`prefkit gc`."""

from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from prefkit.cli.console import counted, say, say_json
from prefkit.cli.options import AsJson, WorkspacePath, opened
from prefkit.store.gc import collect, removable

MEGABYTE = 1_000_000


def gc(
    *,
    keep: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    facts: bool = False,
    dry_run: bool = False,
    json: AsJson = False,
    workspace: WorkspacePath = None,
) -> None:
    """Free space that nothing needs any more: unfinished drafts, table versions that no dataset was made from.

    Parameters
    ----------
    keep
        Also remove versions that have no tag and are not among this many newest of their name.
    facts
        Also remove facts that no remaining version's recipe names. Paid calls stay.
    dry_run
        Name the versions that would go, and remove nothing.
    json
        Print JSON.
    """
    target = opened(workspace)
    if dry_run:
        labels = [v.label for v in removable(target, keep)]
        if json:
            say_json({"versions": labels})
        else:
            say(f"would remove {_versions(labels)}; nothing was removed")
        return
    freed = collect(target, keep, facts)
    if json:
        say_json({"drafts": freed.drafts, "versions": freed.versions, "facts": freed.facts, "bytes": freed.bytes})
        return
    rows = "".join(f", {counted(n, 'row')} of {table}" for table, n in freed.facts.items())
    drafts = counted(freed.drafts, "draft")
    say(f"removed {_versions(freed.versions)}, {drafts}{rows}: {freed.bytes / MEGABYTE:.1f} MB freed")


def _versions(labels: list[str]) -> str:
    return counted(len(labels), "version") + (f" ({', '.join(labels)})" if labels else "")
