"""`prefkit log`."""

from prefkit.cli.console import say, say_all, say_json, table
from prefkit.cli.options import AsJson, WorkspacePath, opened
from prefkit.cli.shift import shift_word
from prefkit.errors import NotFoundError, suggestion
from prefkit.identity import Json
from prefkit.store.versions import Version, Versions


def log(name: str | None = None, /, *, json: AsJson = False, workspace: WorkspacePath = None) -> None:
    """List versions, newest first.

    Parameters
    ----------
    name
        Only the versions of this name.
    json
        Print JSON.
    """
    versions = opened(workspace).versions
    found = newest_first(versions, name)
    tags = versions.tags()
    if json:
        say_json([_entry(v, tags) for v in found])
    elif found:
        rows = [_row(v, tags) for v in found]
        left_out = "recipe" if any(row["shift"] for row in rows) else "shift"  # both are wider than a terminal
        columns = [name for name in rows[0] if name != left_out]
        say_all([table(columns, [[row[name] for name in columns] for row in rows])])
    else:
        say("there is no version yet: run `prefkit build`")


def newest_first(versions: Versions, name: str | None) -> list[Version]:
    """The versions of one name, or of all, by the time of their making. Raises NotFoundError for an unknown name."""
    names = versions.names()
    if name is not None and name not in names:
        hint = suggestion(name, names) if names else "; there is none yet, run `prefkit build`"
        raise NotFoundError(f"no version has the name {name!r}{hint}")
    found = [v for n in ([name] if name else names) for v in versions.all(n)]
    return sorted(found, key=lambda v: (str(v.provenance["created"]), v.number), reverse=True)


def _entry(version: Version, tags: dict[str, str]) -> dict[str, Json]:
    return {
        "label": version.label,
        "kind": version.content["kind"],
        "splits": version.splits,
        "created": version.provenance["created"],
        "fingerprint": version.content["fingerprint"],
        "verdict": version.content["shift"] and version.content["shift"]["verdict"],
        "passed": version.content["shift"] and version.content["shift"]["passed"],
        "tags": _own(version, tags),
    }


def _row(version: Version, tags: dict[str, str]) -> dict[str, str]:
    return {
        "version": version.label,
        "rows": ", ".join(f"{split} {n:,}" for split, n in version.splits.items()),
        "created (UTC)": str(version.provenance["created"])[:16].replace("T", " "),
        "recipe": str(version.content["fingerprint"])[:12],
        "tags": ", ".join(_own(version, tags)),
        "shift": shift_word(version),
    }


def _own(version: Version, tags: dict[str, str]) -> list[str]:
    return sorted(tag for tag, label in tags.items() if label == version.label)
