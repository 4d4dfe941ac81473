"""Bounds on pairs, and caps per prompt and per source: which rows stay, and why the others do not."""

import numpy as np
import numpy.typing as npt
import polars as pl

from prefkit.identity import Words, mix64
from prefkit.selection.completions import Index, Mask, first_of_groups, group_ranks
from prefkit.selection.config import CorrectVsIncorrect, GradedComparisons, PairConfig
from prefkit.selection.outcomes import ROW_CODE, Codes, RowOutcome, failing, group_starts
from prefkit.selection.pairs import Pairs

_SOURCE_SALT = np.uint64(0x9E3779B97F4A7C15)
_NEVER = np.int32(2**31 - 1)


def bounded(pairs: Pairs, config: PairConfig) -> Codes:
    """The outcome of each pair by itself: the first test it fails, else `selected`."""
    codes = failing(np.isnan(pairs.margin), RowOutcome.UNSCORED)
    np.minimum(codes, failing(pairs.margin <= _widest_tie(config), RowOutcome.TIE), out=codes)
    if config.min_score_margin > 0:
        np.minimum(codes, failing(pairs.margin < config.min_score_margin, RowOutcome.BELOW_MARGIN), out=codes)
    if config.max_score_margin is not None:
        np.minimum(codes, failing(pairs.margin > config.max_score_margin, RowOutcome.ABOVE_MARGIN), out=codes)
    if config.max_length_ratio is not None:
        np.minimum(codes, failing(_unequal_lengths(pairs, config.max_length_ratio), RowOutcome.LENGTH_RATIO), out=codes)
    return codes


def cap_prompts(codes: Codes, pairs: Pairs, config: PairConfig) -> None:
    """Marks the selected pairs beyond `per_prompt` as `not_selected`."""
    if config.per_prompt is None:
        return
    rows = np.flatnonzero(codes == ROW_CODE[RowOutcome.SELECTED])
    _, counts = _prompt_groups(pairs.of.prompt[pairs.better[rows]])
    rows = rows[np.repeat(counts > config.per_prompt, counts)]
    if not len(rows):
        return
    crowded = pairs.take(rows)
    if isinstance(config, CorrectVsIncorrect):
        kept = _least_used(crowded, config.per_prompt)
    else:
        kept = _widest(crowded, config.per_prompt)
    codes[rows[~kept]] = ROW_CODE[RowOutcome.NOT_SELECTED]


def cap_sources(codes: Codes, order: Words, sources: pl.Series, per_source: int) -> None:
    """Marks the selected rows beyond `per_source` as `over_source_cap`; which of them stay is random, keyed by row.

    `order` and `sources` are those of the selected rows.
    """
    rows = np.flatnonzero(codes == ROW_CODE[RowOutcome.SELECTED])
    # Mixed again: rows that were picked for a small order must not come first here as well.
    frame = pl.DataFrame({"source": sources, "order": mix64(order ^ _SOURCE_SALT)})
    ranks = frame.select(pl.col("order").rank("ordinal").over("source")).to_series().to_numpy()
    codes[rows[ranks > per_source]] = ROW_CODE[RowOutcome.OVER_SOURCE_CAP]


def _unequal_lengths(pairs: Pairs, max_ratio: float) -> Mask:
    lengths = pairs.of.frame["length"].to_numpy()
    better, worse = lengths[pairs.better], lengths[pairs.worse]
    return np.maximum(better, worse) > max_ratio * np.minimum(better, worse)


def _widest_tie(config: PairConfig) -> float:
    return 2 * config.tie_band if isinstance(config, GradedComparisons) else 0.0


def _widest(pairs: Pairs, per_prompt: int) -> Mask:
    """The pairs with the widest margins of their prompt, equal margins in random order."""
    starts, counts = _prompt_groups(pairs.of.prompt[pairs.better])
    return group_ranks(starts, counts, -pairs.margin, pairs.order) < per_prompt


def _prompt_groups(prompts: npt.NDArray[np.uint32]) -> tuple[Index, Index]:
    starts = group_starts(prompts)
    return starts, np.diff(starts, append=len(prompts))


def _least_used(pairs: Pairs, per_prompt: int) -> Mask:
    """Random pairs, one after the other: each time one whose completions were used least so far.

    Every prompt must have more than `per_prompt` pairs.
    """
    kept = np.zeros(len(pairs.better), np.bool_)
    uses = np.zeros(len(pairs.of.prompt), np.int32)
    starts, counts = _prompt_groups(pairs.of.prompt[pairs.better])
    order = pairs.order
    for _ in range(per_prompt):
        burden = np.where(kept, _NEVER, uses[pairs.better] + uses[pairs.worse])
        lightest = np.flatnonzero(burden == np.repeat(np.minimum.reduceat(burden, starts), counts))
        groups = group_starts(pairs.of.prompt[pairs.better[lightest]])
        picked = lightest[first_of_groups(order[lightest], groups)]
        kept[picked] = True
        uses[pairs.better[picked]] += 1
        uses[pairs.worse[picked]] += 1
    return kept
