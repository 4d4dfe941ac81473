"""`gc`: what may go, and nothing else.

Goes: unfinished drafts; untagged versions past `keep`; pins of versions that are not there; table versions that nothing
pins. Stays: every tagged version, the newest `keep` of each name, and every fact, unless facts are asked for: then
those go that no remaining version's recipe names, except what was imported and what cost money.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from prefkit.records import COMPLETIONS, IMPORTED_POLICY, IMPORTS, SCORES
from prefkit.store.facts import FactStore
from prefkit.store.files import remove_tree
from prefkit.store.versions import Version
from prefkit.store.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Freed:
    """What was removed."""

    drafts: int
    versions: list[str]
    facts: dict[str, int]
    """Rows by table."""
    bytes: int


def collect(workspace: Workspace, keep: int | None = None, facts: bool = False) -> Freed:
    """Removes what may go; `keep` None keeps every version. Needs the workspace alone (WorkspaceError otherwise)."""
    with workspace.alone():
        old = removable(workspace, keep)
        drafts = [p for p in (workspace.root / "tmp").iterdir() if p.name.startswith(("version-", "removed-"))]
        freed = sum(remove_tree(p) for p in drafts) + sum(workspace.versions.remove(v) for v in old)
        left = [v for name in workspace.versions.names() for v in workspace.versions.all(name)]
        for label in set(workspace.facts.pinned()) - {v.pin for v in left}:
            workspace.facts.unpin(label)
        rows = _drop_unnamed(workspace, left) if facts else {}
        freed += workspace.facts.drop_unpinned_versions()
        return Freed(len(drafts), [v.label for v in old], rows, freed)


def removable(workspace: Workspace, keep: int | None) -> list[Version]:
    """The untagged versions that are not among the newest `keep` of their name."""
    if keep is None:
        return []
    tagged = set(workspace.versions.tags().values())
    old = [v for name in workspace.versions.names() for v in workspace.versions.all(name)[: -keep or None]]
    return [v for v in old if v.label not in tagged]


def _drop_unnamed(workspace: Workspace, left: Iterable[Version]) -> dict[str, int]:
    samplers: set[int] = set()
    scorers: set[int] = set()
    for version in left:
        ids = version.provenance["config_ids"]
        samplers |= {*ids["samplers"], *([] if ids["reference"] is None else [ids["reference"]])}
        scorers |= set(ids["scorers"])
    facts = workspace.facts
    return {
        COMPLETIONS.name: facts.drop_rows(COMPLETIONS, "sampler_id", samplers, {"policy_id": IMPORTED_POLICY}),
        SCORES.name: facts.drop_rows(SCORES, "scorer_id", scorers | _imported_scorers(facts)),
    }


def _imported_scorers(facts: FactStore) -> set[int]:
    """Whose scores were imported."""
    held = facts.read(IMPORTS, ["score_ids"]).explode("score_ids").select(id="score_ids")
    return set(facts.read(SCORES, ["id", "scorer_id"]).join(held, on="id", how="semi")["scorer_id"])
