"""The shift report: every statistic, overall and by source, the verdict and the gate, as one value.

It is a pure function of the two frames, the limits and the seed. Numbers are written with six significant digits,
since the last ones of a sum depend on the machine that added it up.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite, nan
from typing import Any, cast

from prefkit.identity import Json
from prefkit.shift.bootstrap import Bootstrap, Estimate
from prefkit.shift.coverage import Coverage
from prefkit.shift.data import ShiftData
from prefkit.shift.scores import Scores, row_scores
from prefkit.shift.staleness import Staleness, staleness
from prefkit.shift.statistics import ScopeStatistics, every_scope
from prefkit.shift.support import NOMINAL, OwnRange
from prefkit.shift.verdict import ORIGINS, Crossing, Limits, Verdict, crossings, verdict

DIGITS = 6


@dataclass(frozen=True, slots=True)
class ShiftReport:
    """What is known about the shift of a version against a reference model."""

    verdict: Verdict
    crossed: tuple[Crossing, ...]
    """Limits of the recipe that are crossed; the gate holds when there are none."""
    limits: Limits
    overall: ScopeStatistics
    sources: Mapping[str, ScopeStatistics]
    own_range: OwnRange
    staleness: Staleness
    coverage: Coverage | None
    unscored: int
    """Completions that the reference could not score."""
    retokenised: int
    """Completions that another tokenizer sampled, which are text to the reference."""
    bootstrap: Bootstrap

    @property
    def passed(self) -> bool:
        """Whether the gate holds."""
        return not self.crossed

    def to_content(self) -> dict[str, Json]:
        """Numbers and kinds, as plain values for a manifest; what is not known is null.

        Without prose: another wording in a later release must not make another version of the same rows.
        """
        plain = {name: rounded(value) for name, value in asdict(self).items()}
        return plain | {"verdict": self.verdict.kind, "passed": self.passed}

    def to_json(self) -> dict[str, Json]:
        """The content, and everything in words."""
        told = self.coverage and self.coverage.words
        said: dict[str, Json] = {"coverage_words": told, "crossed_words": [crossing.words for crossing in self.crossed]}
        return self.to_content() | {"verdict": rounded(asdict(self.verdict)), **said, "origins": dict(ORIGINS)}


def crossed_words(content: Mapping[str, Json]) -> list[str]:
    """The limits that a report crossed, a line each, from what a manifest holds of it."""
    told = cast("list[dict[str, Any]]", content["crossed"])
    return [Crossing(c["statistic"], c["side"], _estimate(c["value"]), c["limit"]).words for c in told]


def _estimate(content: Mapping[str, Any]) -> Estimate:
    known: dict[str, Any] = {name: nan if value is None else value for name, value in content.items()}
    return Estimate(**known)


def report(
    data: ShiftData,
    limits: Limits,
    *,
    scores: Scores | None = None,
    coverage: Coverage | None = None,
    bootstrap: Bootstrap | None = None,
    retokenised: int = 0,
    nominal: float = NOMINAL,
) -> ShiftReport:
    """Works out every statistic of the data, or of `scores` where its rows are scored already.

    Raises SourceError when the reference has too few samples of its own.
    """
    bootstrap = bootstrap or Bootstrap()
    scores = scores or row_scores(data, nominal=nominal, seed=bootstrap.seed)
    overall, sources = every_scope(scores, bootstrap)
    return ShiftReport(
        verdict(overall, sources, limits),
        tuple(crossings(overall, limits.max_off_support, limits.max_nll_gap)),
        limits,
        overall,
        sources,
        scores.own_range,
        staleness(data.rows["staleness"]),
        coverage,
        data.unscored,
        retokenised,
        bootstrap,
    )


def rounded(value: Json) -> Json:
    """The value with numbers of DIGITS significant digits; what is not known, or is infinite, is null."""
    match value:
        case float():
            return float(f"{value:.{DIGITS}g}") if isfinite(value) else None
        case Mapping():
            return {str(key): rounded(item) for key, item in value.items()}
        case list() | tuple():
            return [rounded(item) for item in value]
        case _:
            return value
