"""The check: the last stage of a build. It drops rows that the recipe says to drop, and reports on those that stay.

What a row is measured by are its tokens, the reference, and the reference's own samples of all prompts that came into
the stage. So its numbers do not depend on which rows are dropped.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from prefkit.errors import SourceError
from prefkit.ledger import Ledger
from prefkit.pipeline.check.measuring import Measured, ReferenceMaker, measured, numbered_prompts, sides_of, with_texts
from prefkit.pipeline.check.yardstick import Yardstick
from prefkit.pipeline.draws import SAMPLED
from prefkit.pipeline.outcomes import Dropped
from prefkit.pipeline.recipe import Kind
from prefkit.pipeline.rows import with_ref_logps
from prefkit.records import COMPLETIONS
from prefkit.shift.bootstrap import Bootstrap
from prefkit.shift.coverage import answer_coverage
from prefkit.shift.data import ROWS, ShiftData
from prefkit.shift.report import ShiftReport, report
from prefkit.shift.scores import Scores, row_scores
from prefkit.store.facts import FactStore

CHECK = "check"
OWN_SAMPLES = "reference samples"
KEPT = "kept"
NO_TOKENS_LEFT = "no_tokens_left"
"""Of a completion of the row, the longest length leaves no token: a trainer learns nothing from it."""
_UNITS = {"pairs": "pair", "subset": "completion"}
_IDS = {"pairs": "pair_id", "subset": "completion_id"}


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found; `scores` has every row it is about."""

    report: ShiftReport
    scores: Scores


@dataclass(frozen=True, slots=True)
class CheckStage:
    """The stage, with its account."""

    yardstick: Yardstick
    facts: FactStore
    pins: dict[str, int]
    ledger: Ledger
    dropped: Dropped
    maker: ReferenceMaker | None

    def checked(self, rows: pl.DataFrame, kind: Kind) -> tuple[pl.DataFrame, ShiftReport | None, Measured]:
        """The rows that are kept, with the reference's log-probs where the recipe wants them, and what is said of them.

        The report is None where no row is kept. Raises SourceError when the reference has too few samples of its own.
        """
        planned = self.ledger.accounts[-1].kept
        sides = sides_of(rows, kind)
        prompts = numbered_prompts(rows["prompt_id"])
        found = measured(self.facts, self.yardstick, sides, prompts, self.pins, self.maker)
        draws = prompts.height * self.yardstick.config.samples
        self.ledger.add(OWN_SAMPLES, "draw", draws, found.draws["outcome"], [SAMPLED])
        failed = found.draws.filter(pl.col("outcome") != SAMPLED)
        self.dropped.add(OWN_SAMPLES, failed.with_columns(id="completion_id"))
        scores = self._scores(found)
        rows = rows.with_columns(outcome=_outcomes(rows.height, found, scores, self.yardstick.config.drop))
        self.ledger.add(CHECK, _UNITS[kind], planned, rows["outcome"], [KEPT])
        self.dropped.add(CHECK, rows.filter(pl.col("outcome") != KEPT).with_columns(id=_IDS[kind]))
        kept = (rows["outcome"] == KEPT).arg_true().cast(pl.Int64)
        told = None
        if scores and len(kept):
            told = reported(self.yardstick, found, _only(scores, kept), self.facts, self.pins)
        rows = with_ref_logps(rows, found.sides, kind)
        return rows.filter(pl.col("outcome") == KEPT).drop("outcome"), told, found

    def _scores(self, found: Measured) -> Scores | None:
        lost = found.sides.filter(pl.col("tokens") == 0)["row"]
        usable = found.sides.filter(~pl.col("row").is_in(lost.implode()))
        return scored(self.yardstick, found, usable) if usable.height else None


def scored(yardstick: Yardstick, found: Measured, sides: pl.DataFrame) -> Scores:
    """The scores of these sides, which are some of those measured. Raises SourceError without a yardstick."""
    if found.samples.is_empty():
        failures = ", ".join(f"{count} {kind}" for kind, count in found.draws["outcome"].value_counts().iter_rows())
        raise SourceError(
            f"the reference drew none of {found.draws.height} samples of its own ({failures}), expected some as a "
            f"yardstick: max_new_tokens is {yardstick.config.max_new_tokens}, lower it where prompts and samples do "
            "not fit its context"
        )
    return row_scores(found.data(sides), seed=yardstick.config.seed)


def reported(
    yardstick: Yardstick,
    found: Measured,
    scores: Scores,
    facts: FactStore,
    pins: Mapping[str, int],
    unscored: int = 0,
) -> ShiftReport:
    """What is said of the rows that have these scores; texts are read as of the pins."""
    data = ShiftData(scores.rows.select(ROWS.names()), found.samples, unscored)
    own = found.sides.join(scores.rows.select("row", "side"), on=["row", "side"], how="semi")
    at = pins[COMPLETIONS.name]
    coverage = answer_coverage(with_texts(facts, own, at), with_texts(facts, found.samples, at), Bootstrap())
    retokenised = int(own["retokenised"].sum())
    return report(data, yardstick.limits, scores=scores, coverage=coverage, retokenised=retokenised)


def _only(scores: Scores, rows: pl.Series) -> Scores:
    return Scores(scores.rows.filter(pl.col("row").is_in(rows.implode())), scores.samples, scores.own_range)


def _outcomes(rows: int, found: Measured, scores: Scores | None, drop: tuple[str, ...]) -> pl.Series:
    """The outcome of each row; of several the first: no token left, then the sides in the order of `drop`."""
    of: dict[str, pl.Series] = {NO_TOKENS_LEFT: found.sides.filter(pl.col("tokens") == 0)["row"]}
    if scores:
        of |= {f"{side}_off_support": scores.rows.filter("off_support", side=side)["row"] for side in drop}
    outcome = pl.repeat(KEPT, rows, dtype=pl.String, eager=True)
    for name, places in reversed(of.items()):
        outcome = outcome.scatter(places.unique(), name)
    return outcome
