"""What an evaluation says, as one value: who was compared, how, the numbers, and what had to be computed for them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import cast

from prefkit.identity import Json
from prefkit.pipeline.evaluation.statistics import Scope
from prefkit.shift.bootstrap import Bootstrap
from prefkit.shift.report import rounded
from prefkit.spending import Amount

JUDGES, SCORES = "judges", "scores"


@dataclass(frozen=True, slots=True)
class Who:
    """A side, by name and by its weights."""

    name: str
    policy_id: str


@dataclass(frozen=True, slots=True)
class Computed:
    """What this evaluation had to compute; the rest was known."""

    drawn: int
    labelled: int
    compared: int
    logps: int
    to_retry: int
    """Draws, labels and comparisons that failed for a passing reason: the next evaluation tries them again."""
    spent: Amount


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A policy against a baseline."""

    recipe: str
    policy: Who
    baseline: Who
    held_out: int
    """Prompts that both were asked."""
    n: int
    """Completions per prompt, of each."""
    sampling: Mapping[str, Json]
    plain: bool
    """Whether completions were drawn at T = 1 over the whole vocabulary. If not, `divergence` is a mean over what was
    sampled and no KL of the policy itself."""
    decided_by: str
    """What says who wins: judges or scores."""
    accuracies: Sequence[str]
    """The aspects whose mean is an accuracy: an estimate of pass@1."""
    left_out: Sequence[str]
    """Imported aspects of the recipe, which nobody can say of new completions."""
    overall: Scope
    sources: Mapping[str, Scope]
    computed: Computed
    bootstrap: Bootstrap

    def to_json(self) -> dict[str, Json]:
        """As plain values; what is not known is null."""
        spent = self.computed.spent
        computed = asdict(self.computed) | {"spent": {"tokens": spent.tokens, "usd": spent.usd}}
        return cast("dict[str, Json]", rounded(asdict(self) | {"computed": computed}))
