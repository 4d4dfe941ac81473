"""What became of every prompt, candidate pair and completion of a selection.

A row (a candidate pair, or a completion of a subset strategy) ends in one `RowOutcome`. The members stand in the order
in which a row passes its tests, so the last one a prompt's rows reached says what became of the prompt.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import polars as pl

Codes = npt.NDArray[np.uint8]


class RowOutcome(StrEnum):
    """What became of a candidate pair or a completion, from the earliest to the latest test."""

    UNSCORED = "unscored"
    """There is no score: an aspect that counts, or every comparison of the pair, failed."""
    TIE = "tie"
    """Both completions are equally good."""
    BELOW_MARGIN = "below_margin"
    """The score margin is smaller than `min_score_margin`."""
    ABOVE_MARGIN = "above_margin"
    """The score margin is larger than `max_score_margin`."""
    LENGTH_RATIO = "length_ratio"
    """One completion is more than `max_length_ratio` times as long as the other."""
    BELOW_SCORE = "below_score"
    """The score is lower than `min_score`."""
    BETWEEN_THRESHOLDS = "between_thresholds"
    """The score is neither desirable nor undesirable."""
    NOT_SELECTED = "not_selected"
    """Others of the prompt, or of all, came first."""
    OVER_SOURCE_CAP = "over_source_cap"
    """The source already has `per_source` rows."""
    SELECTED = "selected"
    """The row is in the dataset."""


class PromptOutcome(StrEnum):
    """What became of a prompt."""

    SELECTED = "selected"
    """At least one row of the prompt is in the dataset."""
    NO_COMPLETIONS = "no_completions"
    """No completion was sampled or passed hygiene."""
    UNSCORED = "unscored"
    """No completion has a score, or every comparison failed."""
    ONE_COMPLETION = "one_completion"
    """Only one completion can be used, and a pair needs two."""
    NO_COMPARISONS = "no_comparisons"
    """None of the prompt's completions was compared with another."""
    NO_CORRECT = "no_correct"
    """Every completion is incorrect."""
    NO_INCORRECT = "no_incorrect"
    """Every completion is correct."""
    ALL_TIED = "all_tied"
    """Every candidate pair is a tie."""
    NO_PAIR_IN_BOUNDS = "no_pair_in_bounds"
    """No candidate pair keeps the bounds on score margin and length."""
    BELOW_SCORE = "below_score"
    """No completion reaches `min_score`."""
    BETWEEN_THRESHOLDS = "between_thresholds"
    """No completion is desirable or undesirable."""
    NOT_SELECTED = "not_selected"
    """Completions of other prompts came first."""
    OVER_SOURCE_CAP = "over_source_cap"
    """The source already has `per_source` rows of other prompts."""


ROW_OUTCOME = pl.Enum(RowOutcome)
PROMPT_OUTCOME = pl.Enum(PromptOutcome)

ROW_CODE = {outcome: code for code, outcome in enumerate(RowOutcome)}
PROMPT_CODE = {outcome: code for code, outcome in enumerate(PromptOutcome)}

_PROMPT_OF_ROW = {
    RowOutcome.UNSCORED: PromptOutcome.UNSCORED,
    RowOutcome.TIE: PromptOutcome.ALL_TIED,
    RowOutcome.BELOW_MARGIN: PromptOutcome.NO_PAIR_IN_BOUNDS,
    RowOutcome.ABOVE_MARGIN: PromptOutcome.NO_PAIR_IN_BOUNDS,
    RowOutcome.LENGTH_RATIO: PromptOutcome.NO_PAIR_IN_BOUNDS,
    RowOutcome.BELOW_SCORE: PromptOutcome.BELOW_SCORE,
    RowOutcome.BETWEEN_THRESHOLDS: PromptOutcome.BETWEEN_THRESHOLDS,
    RowOutcome.NOT_SELECTED: PromptOutcome.NOT_SELECTED,
    RowOutcome.OVER_SOURCE_CAP: PromptOutcome.OVER_SOURCE_CAP,
    RowOutcome.SELECTED: PromptOutcome.SELECTED,
}
_PROMPT_CODE_OF_ROW_CODE = np.array([PROMPT_CODE[_PROMPT_OF_ROW[outcome]] for outcome in RowOutcome], np.uint8)


@dataclass(frozen=True, slots=True)
class Selection:
    """What a strategy chose, and the account of everything it considered.

    `prompts` has one row per prompt: `prompt`, `outcome` (a `PromptOutcome`).
    `rows`, sorted by prompt, has one row per candidate pair (`prompt`, `chosen`, `rejected`, `score_margin`,
    `outcome`) or, for subsets, per completion (`prompt`, `candidate`, `score`, `label`, `weight`, `outcome`);
    `outcome` is a `RowOutcome`, and the rows of the dataset are those that are `selected`.
    """

    prompts: pl.DataFrame
    rows: pl.DataFrame

    @property
    def selected(self) -> pl.DataFrame:
        """The rows of the dataset, without their outcome."""
        return self.rows.filter(pl.col("outcome") == RowOutcome.SELECTED).drop("outcome")


def row_outcomes(codes: Codes) -> pl.Series:
    """Codes of `RowOutcome` as a column."""
    return _labelled(codes, ROW_OUTCOME)


def prompt_outcomes(without_rows: Codes, row_prompts: npt.NDArray[np.uint32], row_codes: Codes) -> pl.DataFrame:
    """One outcome per prompt: that of the row that came furthest, or `without_rows` where a prompt has no row."""
    codes = without_rows.copy()
    if len(row_prompts):
        starts = group_starts(row_prompts)
        codes[row_prompts[starts]] = _PROMPT_CODE_OF_ROW_CODE[np.maximum.reduceat(row_codes, starts)]
    numbers = pl.Series("prompt", np.arange(len(codes), dtype=np.uint32))
    return pl.DataFrame([numbers, _labelled(codes, PROMPT_OUTCOME)])


def failing(mask: npt.NDArray[np.bool_], outcome: RowOutcome) -> Codes:
    """The code of `outcome` where the mask holds, else that of `selected`.

    An earlier test has a smaller code, so the minimum of several is the first test that fails. (Arithmetic, since an
    assignment through a random mask is ten times slower.)
    """
    selected = np.uint8(ROW_CODE[RowOutcome.SELECTED])
    return selected - mask.view(np.uint8) * (selected - np.uint8(ROW_CODE[outcome]))


def group_starts(sorted_groups: npt.NDArray[np.unsignedinteger]) -> npt.NDArray[np.intp]:
    """Positions at which a new group begins in a sorted column."""
    if not len(sorted_groups):
        return np.empty(0, np.intp)
    return np.concatenate([np.zeros(1, np.intp), np.flatnonzero(sorted_groups[1:] != sorted_groups[:-1]) + 1])


def _labelled(codes: Codes, outcomes: pl.Enum) -> pl.Series:
    return pl.Series("outcome", codes).cat.to(outcomes)
