"""The candidate pairs of each strategy, before any bound or cap.

A strategy is a function from scored completions (two or more per prompt) to pairs of positions: the better completion
first, sorted by prompt. A pair of equal scores is a tie; it is returned, counted and dropped later. The three
`best_vs_*` strategies give exactly one pair per prompt, a tie where all scores are equal.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from prefkit.identity import Words
from prefkit.selection.completions import Completions, Floats, Index, Mask
from prefkit.selection.config import DECIMALS
from prefkit.selection.outcomes import group_starts

_UNIT = 10**DECIMALS


@dataclass(frozen=True, slots=True)
class Pairs:
    """Positions of the better and the worse completion, and by how much; the margin is NaN where it is unknown."""

    of: Completions
    better: Index
    worse: Index
    margin: Floats

    @property
    def order(self) -> Words:
        """A keyed random number per pair. Numbers of pairs that share a completion are independent two by two."""
        order = self.of.order(np.arange(len(self.of.key)))
        return order[self.better] ^ order[self.worse]

    def take(self, rows: Index) -> "Pairs":
        """The pairs at these positions."""
        return Pairs(self.of, self.better[rows], self.worse[rows], self.margin[rows])


def best_vs_worst(scored: Completions) -> Pairs:
    """A highest score against a lowest."""
    lowest = np.minimum.reduceat(scored.score, scored.starts)
    return _best_vs(scored, scored.score == scored.spread(lowest))


def best_vs_random(scored: Completions) -> Pairs:
    """A highest score against any lower one."""
    highest, lowest = _extremes(scored)
    return _best_vs(scored, (scored.score < scored.spread(highest)) | scored.spread(highest == lowest))


def best_vs_second(scored: Completions) -> Pairs:
    """A highest score against one of the next lower score."""
    highest, lowest = _extremes(scored)
    lower = np.where(scored.score < scored.spread(highest), scored.score, -np.inf)
    second = np.maximum.reduceat(lower, scored.starts)
    return _best_vs(scored, scored.score == scored.spread(np.where(highest == lowest, highest, second)))


def all_pairs(scored: Completions) -> Pairs:
    """Every two completions of a prompt."""
    position = np.arange(len(scored.prompt))
    partners = scored.spread(scored.starts + scored.counts) - 1 - position
    left, right = np.repeat(position, partners), _runs(position + 1, partners)
    margin = np.repeat(scored.score, partners)
    margin -= scored.score[right]
    # Swaps by exclusive or: on random signs a choice by branches is several times slower.
    swap = (left ^ right) & -(margin < 0).astype(np.intp)
    left ^= swap
    right ^= swap
    return Pairs(scored, left, right, np.round(np.abs(margin, out=margin), DECIMALS, out=margin))


def correct_vs_incorrect(scored: Completions, correct_at: float) -> Pairs:
    """Every correct completion against every incorrect one of its prompt."""
    correct = scored.score >= correct_at
    incorrect = np.flatnonzero(~correct)
    group = np.repeat(np.arange(len(scored.starts)), scored.counts)
    incorrect_counts = np.bincount(group[incorrect], minlength=len(scored.starts))
    incorrect_starts = np.cumsum(incorrect_counts) - incorrect_counts
    position = np.flatnonzero(correct)
    partners = incorrect_counts[group[position]]
    nth = _runs(incorrect_starts[group[position]], partners)
    return _scored_pairs(scored, np.repeat(position, partners), incorrect[nth])


def compared_pairs(completions: Completions, comparisons: pl.DataFrame) -> Pairs:
    """Every pair that was compared; its margin is |2 p - 1|, where p is the mean preference, rounded.

    The mean is over all rows of the pair: judges, orders and repeats. Rows without a preference do not count; a pair
    with no other row has the margin NaN. Comparisons of completions that are not candidates are left out.
    """
    first, second, preference = _mean_preferences(completions, comparisons)
    swapped = preference < 0.5
    margin = np.abs(2 * preference - 1).round(DECIMALS)
    return Pairs(completions, np.where(swapped, second, first), np.where(swapped, first, second), margin)


def _mean_preferences(completions: Completions, comparisons: pl.DataFrame) -> tuple[Index, Index, Floats]:
    """Per compared pair, in order of position: both positions and the mean preference for the first."""
    first, second = _positions(completions, comparisons["a"], comparisons["b"])
    preference = comparisons["preference"].fill_null(float("nan")).to_numpy()
    both = (first >= 0) & (second >= 0)
    if not both.all():
        first, second, preference = first[both], second[both], preference[both]
    if np.any(completions.prompt[first] != completions.prompt[second]) or np.any(first >= second):
        raise ValueError("a comparison is not between two candidates a < b of one prompt: see `prompt`, `a` and `b`")
    known = ~np.isnan(preference)
    # Added up as whole multiples of the last decimal: exact, so the order of rows cannot matter.
    units = np.where(known, (preference * _UNIT).round(), 0.0)
    pair = first.astype(np.uint64) * np.uint64(len(completions.candidate)) + second.astype(np.uint64)
    by_pair = np.argsort(pair)
    starts = group_starts(pair[by_pair])
    total, count = np.add.reduceat(units[by_pair], starts), np.add.reduceat(known[by_pair], starts, dtype=np.int64)
    mean = np.where(count > 0, (total / np.maximum(count, 1)).round() / _UNIT, np.nan)
    return first[by_pair[starts]], second[by_pair[starts]], mean


def _positions(completions: Completions, *candidates: pl.Series) -> list[Index]:
    """Where the candidates of these numbers stand; -1 for what is no candidate."""
    columns = [numbers.to_numpy() for numbers in candidates]
    size = 1 + max(int(numbers.max(initial=0)) for numbers in (completions.candidate, *columns))
    table = np.full(size, -1, np.intp)
    table[completions.candidate] = np.arange(len(completions.candidate))
    return [table[numbers] for numbers in columns]


def _best_vs(scored: Completions, rejectable: Mask) -> Pairs:
    highest = np.maximum.reduceat(scored.score, scored.starts)
    chosen = scored.first(scored.score == scored.spread(highest))
    rejectable[chosen] = False
    return _scored_pairs(scored, chosen, scored.first(rejectable))


def _extremes(scored: Completions) -> tuple[Floats, Floats]:
    return np.maximum.reduceat(scored.score, scored.starts), np.minimum.reduceat(scored.score, scored.starts)


def _scored_pairs(scored: Completions, better: Index, worse: Index) -> Pairs:
    margin = scored.score[better]
    margin -= scored.score[worse]
    return Pairs(scored, better, worse, np.round(margin, DECIMALS, out=margin))


def _runs(firsts: Index, counts: Index) -> Index:
    """first, first + 1, ..., first + count - 1 for each first and count in turn."""
    ends = np.cumsum(counts)
    runs = np.arange(ends[-1] if len(ends) else 0)
    runs += np.repeat(firsts - (ends - counts), counts)
    return runs
