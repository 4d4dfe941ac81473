"""What the stages of a version count, from the units in its ledger, and so what the ids of its outcomes name."""

from prefkit.pipeline.tracing.verdicts import RowKind
from prefkit.store.versions import Version

_RATINGS = ("rating", "comparison")
"""What the stages of ratings count: scores, or comparisons, or both."""
_KINDS = {
    "task": RowKind.TASK,
    "draw": RowKind.COMPLETION,
    "completion": RowKind.COMPLETION,
    "label": RowKind.SCORE,
    "prompt": RowKind.PROMPT,
    "candidate pair": RowKind.PAIR,
    "pair": RowKind.PAIR,
}


def kinds_of_stages(version: Version) -> dict[str, RowKind]:
    """What the stages of a version count, and so the `id` of their outcomes, but for `rating_stages`."""
    return {a.stage: _KINDS[a.unit] for a in version.ledger if a.unit in _KINDS}


def rating_stages(version: Version) -> list[str]:
    """The stages that count ratings: the `id` of their outcomes is that of a score or of a comparison."""
    return [a.stage for a in version.ledger if a.unit in _RATINGS]
