"""The stage of imported ratings: which of them count for a build's candidates, booked in the ledger.

With `select.kind: comparisons` the recipe's imported scorers compare; else they score, directly or against a baseline.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from prefkit.errors import NotFoundError
from prefkit.ledger import Ledger
from prefkit.pipeline.comparing import judged_labels
from prefkit.pipeline.imports.content import Held, Import, held
from prefkit.pipeline.outcomes import Dropped
from prefkit.pipeline.ratings import (
    RATED,
    Entry,
    asked_ratings,
    entries,
    mean_preferences,
    mean_scores,
    placed_comparisons,
    placed_scores,
    scores_against,
)
from prefkit.pipeline.recipe import Recipe
from prefkit.records import COMPARISONS, IMPORTS, SCORES, FactTable
from prefkit.scoring.config import ImportedScorer, PairwiseJudgeScorer, ScoreConfig
from prefkit.selection.aggregation import pooled_preference
from prefkit.store.facts import FactStore


@dataclass(frozen=True, slots=True)
class _Kind:
    """One of the two things that annotators give."""

    word: str
    table: FactTable
    held: Held


_SCORES = _Kind("score", SCORES, "score_ids")
_COMPARISONS = _Kind("comparison", COMPARISONS, "comparison_ids")
_BOOKED = ("entry", "id", "prompt_id", "candidate", "score", "outcome")
_COMPARED = ("a", "b", "preference", "outcome")
_SIDES = ("completion_a", "completion_b", "preference")


@dataclass(frozen=True, slots=True)
class RatingStage:
    """Reads what the imports hold of a recipe's scorers, as of the pinned tables.

    `places` says which candidate each imported completion counts for, as `rated_candidates` gives it.
    """

    recipe: Recipe
    facts: FactStore
    imports: Sequence[Import]
    pins: dict[str, int]
    ledger: Ledger
    dropped: Dropped
    places: pl.DataFrame

    def scores(self, size: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Per candidate a column of scores and a column of outcomes for each scoring entry; see `mean_scores`."""
        asked = [] if self.recipe.compares else self._entries()
        direct = [e for e in asked if e.config.against is None]
        against = [e for e in asked if e.config.against is not None]
        parts: list[pl.DataFrame] = []
        planned = 0
        if direct:
            rows = self._asked(_SCORES, direct, ["completion_id", "score"])
            planned += rows.height
            parts.append(placed_scores(rows, self.places).select(_BOOKED))
        if against:
            rows = self._asked(_COMPARISONS, against, _SIDES)
            planned += rows.height
            parts.append(scores_against(placed_comparisons(rows, self.places), against).select(_BOOKED))
        if not asked:
            return pl.DataFrame(), pl.DataFrame()
        names = pl.Enum([e.name for e in asked])
        ratings = pl.concat([part.with_columns(pl.col("entry").cast(pl.String).cast(names)) for part in parts])
        self._book("imported scores", "rating", planned, ratings)
        return mean_scores(ratings, [e.name for e in asked], size)

    def preferences(self, judged: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """Per compared pair `first` < `second` the preference of each entry and judged aspect, pooled in `preference`.

        `judged` are the comparisons of the recipe's own judges, with the labels that `judged_labels` gives them.
        """
        asked = self._entries()
        parts: list[pl.DataFrame] = []
        if asked:
            rows = self._asked(_COMPARISONS, asked, _SIDES)
            placed = placed_comparisons(rows, self.places)
            self._book("imported comparisons", "comparison", rows.height, placed)
            parts.append(placed)
        parts += [judged_labels(keys) for keys in judged]
        names = [aspect for scorer in self.recipe.score for aspect in scorer.aspects if _compares(scorer)]
        told = pl.concat([part.select(pl.col("entry").cast(pl.String), *_COMPARED) for part in parts])
        pairs = mean_preferences(told, names)
        return pairs.with_columns(pooled_preference(pairs.select(names), self.recipe.aggregate))

    def _entries(self) -> list[Entry]:
        return entries(self.facts, [c for c in self.recipe.score if isinstance(c, ImportedScorer)])

    def _asked(self, kind: _Kind, asked: Sequence[Entry], columns: Sequence[str]) -> pl.DataFrame:
        rows = asked_ratings(self.facts, kind.table, columns, self._held(kind), asked, self.pins[kind.table.name])
        found = set(rows["entry"].unique())
        for entry in asked:
            if entry.name not in found:
                raise NotFoundError(self._nothing(kind, entry))
        return rows

    def _held(self, kind: _Kind) -> pl.Series:
        return held(self.facts, self.imports, kind.held, self.pins[IMPORTS.name])

    def _nothing(self, asked: _Kind, entry: Entry) -> str:
        got: list[str] = []
        for kind in (_SCORES, _COMPARISONS):
            rows = self.facts.gather(kind.table, ["scorer_id", "aspect"], self._held(kind), self.pins[kind.table.name])
            aspects = rows.filter(pl.col("scorer_id").is_in(entry.scorer_ids))["aspect"].unique().sort()
            got += [f"{kind.word}s of {aspect!r}" for aspect in aspects]
        remedy = (
            "set `against` to the model it compares with, or use" if asked is _SCORES else "or use another kind than"
        )
        return (
            f"scorer {entry.config.scorer!r} gave no {asked.word}s of {entry.config.aspect!r} to "
            f"{self.imports[0].source!r}, got {', '.join(got) or 'nothing'}: name one of its aspects, {remedy} "
            "`select.kind: comparisons`"
        )

    def _book(self, stage: str, unit: str, planned: int, rows: pl.DataFrame) -> None:
        self.ledger.add(stage, unit, planned, rows["outcome"], [RATED])
        told = rows.filter(pl.col("outcome") != RATED)
        self.dropped.add(stage, told.with_columns(detail=pl.col("entry").cast(pl.String)))


def _compares(scorer: ScoreConfig) -> bool:
    return isinstance(scorer, ImportedScorer | PairwiseJudgeScorer)
