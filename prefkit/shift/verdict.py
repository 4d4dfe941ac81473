"""From numbers to what to do: the verdict, its reasons, and the gate.

The remedies are the literature's; the limits are not, since no paper gives any. `ORIGINS` says for each where it comes
from, and every report repeats it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from prefkit.shift.bootstrap import Estimate
from prefkit.shift.data import Side
from prefkit.shift.statistics import ScopeStatistics, SideStatistics

Kind: TypeAlias = Literal["fine", "sft_first", "regenerate", "mix"]

MAX_OFF_SUPPORT = 0.10
MAX_NLL_GAP = 0.5
MOSTLY = 0.5
NAMED = 8

ORIGINS: Mapping[str, str] = {
    "max_off_support": "the recipe's, else 0.10: ten times what the reference's own samples have; a choice of ours",
    "max_nll_gap": "the recipe's, else 0.5 nats per token: a perplexity 1.65 times the reference's own; a choice of "
    "ours",
    "mostly": "half of the rows; a choice of ours",
}
WORDS: Mapping[Kind, str] = {
    "fine": "fine: the rows are what the reference itself would write, within the limits",
    "sft_first": "SFT on chosen first: only they are outside what the reference would write, so a preference loss "
    "would mostly push the rejected down",
    "regenerate": "regenerate on-policy: what a preference loss would move is not what the reference says",
    "mix": "mix: keep what the reference would write and regenerate the rest on-policy",
}
EVIDENCE: Mapping[Kind, str] = {
    "fine": "Tang et al. 2024 (arXiv:2405.08448): what helps offline data is nearness to the SFT policy of at least "
    "one side",
    "sft_first": "Xu et al. 2024 (arXiv:2404.10719): DPO after SFT on the safe responses, safety rate 55.4 to 71.8 %",
    "regenerate": "Xu et al. 2024 (arXiv:2404.10719): DPO on its own labelled samples, four rounds, safety rate 86.7 "
    "to 99.9 %, where offline DPO has 55.4 %; Tajwar et al. 2024 (arXiv:2404.14367): on-policy data helps most where "
    "good responses are unlikely under the reference",
    "mix": "Tajwar et al. 2024 (arXiv:2404.14367): on-policy samples and a loss that pushes down add to each other; no "
    "paper gives the proportion",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """A recipe's gate. What it leaves open is judged by the defaults, and never gated."""

    max_off_support: float | None = None
    """Largest share of a side's rows above the reference's own range."""
    max_nll_gap: float | None = None
    """Largest NLL per token of a side above that of the reference's own samples, in nats."""

    @property
    def off_support(self) -> float:
        """What the verdict judges by."""
        return MAX_OFF_SUPPORT if self.max_off_support is None else self.max_off_support

    @property
    def nll_gap(self) -> float:
        """What the verdict judges by."""
        return MAX_NLL_GAP if self.max_nll_gap is None else self.max_nll_gap


@dataclass(frozen=True, slots=True)
class Crossing:
    """A limit that was crossed."""

    statistic: Literal["off_support", "nll_gap"]
    side: Side
    value: Estimate
    limit: float

    @property
    def words(self) -> str:
        """One line."""
        what = "off-support share" if self.statistic == "off_support" else "NLL gap"
        ends = f"{self.value.low:.3g} to {self.value.high:.3g}"
        return f"{what} of {self.side} is {self.value.value:.3g} ({ends}), limit {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do, and why."""

    kind: Kind
    words: str
    reasons: tuple[str, ...]
    """The numbers behind it, one line each."""
    evidence: str
    """Who found that the remedy helps."""


def verdict(overall: ScopeStatistics, sources: Mapping[str, ScopeStatistics], limits: Limits) -> Verdict:
    """The first rule that holds:

    1. no side crosses a limit: fine;
    2. some sources certainly cross none, others certainly do (by their whole intervals): mix, source by source;
    3. only the chosen (or the completions, where there are no pairs) cross: SFT on chosen first;
    4. fewer than half of the rows of any side are off-support, and no gap is too large: mix, row by row;
    5. else: regenerate on-policy.
    """
    crossed = crossings(overall, limits.off_support, limits.nll_gap)
    if not crossed:
        return _verdict("fine", tuple(_numbers(side) for side in overall.sides))
    reasons = tuple(crossing.words for crossing in crossed)
    standing = {name: _standing(scope, limits) for name, scope in sources.items()}
    named = {where: [name for name in sources if standing[name] == where] for where in ("inside", "outside", "open")}
    if named["inside"] and named["outside"]:
        unknown = f"; too few rows to say: {_listed(named['open'])}" if named["open"] else ""
        told = f"keep {_listed(named['inside'])}; regenerate {_listed(named['outside'])}{unknown}"
        return _verdict("mix", (*reasons, told))
    if "rejected" not in {crossing.side for crossing in crossed}:
        return _verdict("sft_first", reasons)
    rare = all(crossing.statistic == "off_support" and crossing.value.value < MOSTLY for crossing in crossed)
    return _verdict("mix" if rare else "regenerate", reasons)


def crossings(scope: ScopeStatistics, max_off_support: float | None, max_nll_gap: float | None) -> list[Crossing]:
    """The limits that a side of this scope crosses; None is no limit. Values decide, not their intervals."""
    found: list[Crossing] = []
    for side in scope.sides:
        if max_off_support is not None and side.off_support.value > max_off_support:
            found.append(Crossing("off_support", side.side, side.off_support, max_off_support))
        gap = side.against_samples and side.against_samples.nll_gap
        if gap and max_nll_gap is not None and gap.value > max_nll_gap:
            found.append(Crossing("nll_gap", side.side, gap, max_nll_gap))
    return found


def _standing(scope: ScopeStatistics, limits: Limits) -> Literal["inside", "outside", "open"]:
    """Where a source stands as far as its intervals tell."""
    measured = [(side.off_support, limits.off_support) for side in scope.sides]
    measured += [(s.against_samples.nll_gap, limits.nll_gap) for s in scope.sides if s.against_samples]
    if any(estimate.low > limit for estimate, limit in measured):
        return "outside"
    return "inside" if all(estimate.high <= limit for estimate, limit in measured) else "open"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _verdict(kind: Kind, reasons: tuple[str, ...]) -> Verdict:
    return Verdict(kind, WORDS[kind], reasons, EVIDENCE[kind])


def _numbers(side: SideStatistics) -> str:
    gap = side.against_samples and side.against_samples.nll_gap
    told = f", NLL gap {gap.value:+.3g} nats per token" if gap else ""
    return f"{side.off_support.value:.1%} of {side.side} are off-support{told}"
