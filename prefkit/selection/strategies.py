"""Selection: from scored completions to pairs or subsets, and one outcome for everything that was considered.

A pair strategy lists its candidate pairs (`pairs.py`), bounds drop some, caps per prompt and per source drop more
(`caps.py`); a subset strategy judges every completion (`subsets.py`) and the cap per source follows. Only numbers are
touched: the caller gathers the texts of the selected rows once, at the end.
"""

import numpy as np
import polars as pl

from prefkit.selection.caps import bounded, cap_prompts, cap_sources
from prefkit.selection.completions import Completions, Index
from prefkit.selection.config import (
    AllPairs,
    BestVsRandom,
    BestVsSecond,
    BestVsWorst,
    CorrectVsIncorrect,
    GradedComparisons,
    PairBase,
    PairConfig,
    SelectConfig,
    SubsetConfig,
)
from prefkit.selection.outcomes import (
    PROMPT_CODE,
    ROW_CODE,
    Codes,
    PromptOutcome,
    RowOutcome,
    Selection,
    group_starts,
    prompt_outcomes,
    row_outcomes,
)
from prefkit.selection.pairs import (
    Pairs,
    all_pairs,
    best_vs_random,
    best_vs_second,
    best_vs_worst,
    compared_pairs,
    correct_vs_incorrect,
)
from prefkit.selection.subsets import subset


def select(
    candidates: pl.DataFrame, config: SelectConfig, *, prompts: int, comparisons: pl.DataFrame | None = None
) -> Selection:
    """What `config` selects, with exactly one outcome per prompt and per row.

    `candidates`, one row per completion, sorted by prompt: `prompt` (UInt32, below `prompts`), `candidate` (UInt32,
    unique), `key` (UInt64, uniform and derived from content), `score` (Float64, rounded, null when unscored),
    `length` (UInt32, characters), `source` (constant within a prompt). `prompts` counts all prompts, also those that
    have no candidate left. `comparisons`, for that strategy alone: `prompt`, `a`, `b` (candidates), `preference`
    (Float64 in [0, 1], 1 prefers a, null when the call failed), any number of rows per pair.

    Raises ValueError when candidates are out of order or a score is not finite.
    """
    _check(candidates, prompts)
    if isinstance(config, PairBase):
        return _select_pairs(candidates, config, prompts, comparisons)
    return _select_subset(candidates, config, prompts)


def _select_pairs(
    candidates: pl.DataFrame, config: PairConfig, prompts: int, comparisons: pl.DataFrame | None
) -> Selection:
    usable = candidates if isinstance(config, GradedComparisons) else candidates.drop_nulls("score")
    without_rows = _prompts_without_pairs(candidates, usable, config, prompts)
    pairs = _candidate_pairs(Completions.of(_of_two_or_more(usable, prompts), config.seed), config, comparisons)
    codes = bounded(pairs, config)
    cap_prompts(codes, pairs, config)
    if config.per_source is not None:
        rows = _selected(codes)
        sources = pairs.of.frame["source"].gather(pairs.better[rows])
        cap_sources(codes, pairs.take(rows).order, sources, config.per_source)
    prompt = pairs.of.prompt[pairs.better]
    rows = pl.DataFrame(
        {
            "prompt": prompt,
            "chosen": pairs.of.candidate[pairs.better],
            "rejected": pairs.of.candidate[pairs.worse],
            "score_margin": pl.Series(pairs.margin, nan_to_null=True),
            "outcome": row_outcomes(codes),
        }
    )
    return Selection(prompt_outcomes(without_rows, prompt, codes), rows)


def _candidate_pairs(completions: Completions, config: PairConfig, comparisons: pl.DataFrame | None) -> Pairs:
    match config:
        case BestVsWorst():
            return best_vs_worst(completions)
        case BestVsRandom():
            return best_vs_random(completions)
        case BestVsSecond():
            return best_vs_second(completions)
        case AllPairs():
            return all_pairs(completions)
        case CorrectVsIncorrect():
            return correct_vs_incorrect(completions, config.correct_at)
        case GradedComparisons():
            if comparisons is None:
                raise ValueError("select got no comparisons, expected a frame: the strategy `comparisons` needs one")
            return compared_pairs(completions, comparisons)


def _prompts_without_pairs(candidates: pl.DataFrame, usable: pl.DataFrame, config: PairConfig, prompts: int) -> Codes:
    """Per prompt, why it has no candidate pair, should it have none."""
    counts = _counts(usable, prompts)
    codes = np.full(prompts, PROMPT_CODE[PromptOutcome.NO_COMPARISONS], np.uint8)
    if isinstance(config, CorrectVsIncorrect):
        correct = _counts(usable.filter(pl.col("score") >= config.correct_at), prompts)
        codes[correct == counts] = PROMPT_CODE[PromptOutcome.NO_INCORRECT]
        codes[correct == 0] = PROMPT_CODE[PromptOutcome.NO_CORRECT]
    codes[counts == 1] = PROMPT_CODE[PromptOutcome.ONE_COMPLETION]
    codes[counts == 0] = PROMPT_CODE[PromptOutcome.UNSCORED]
    codes[_counts(candidates, prompts) == 0] = PROMPT_CODE[PromptOutcome.NO_COMPLETIONS]
    return codes


def _select_subset(candidates: pl.DataFrame, config: SubsetConfig, prompts: int) -> Selection:
    completions = Completions.of(candidates, config.seed)
    chosen = subset(completions, config)
    if config.per_source is not None:
        rows = _selected(chosen.codes)
        cap_sources(chosen.codes, completions.order(rows), candidates["source"].gather(rows), config.per_source)
    unknown = pl.lit(None)
    rows = candidates.select(
        "prompt",
        "candidate",
        "score",
        (unknown if chosen.label is None else chosen.label).cast(pl.Boolean).alias("label"),
        (unknown if chosen.weight is None else chosen.weight).cast(pl.Float64).alias("weight"),
        row_outcomes(chosen.codes),
    )
    without_rows = np.full(prompts, PROMPT_CODE[PromptOutcome.NO_COMPLETIONS], np.uint8)
    return Selection(prompt_outcomes(without_rows, completions.prompt, chosen.codes), rows)


def _of_two_or_more(usable: pl.DataFrame, prompts: int) -> pl.DataFrame:
    enough = _counts(usable, prompts)[usable["prompt"].to_numpy()] >= 2
    return usable if enough.all() else usable.filter(pl.Series(enough))


def _counts(frame: pl.DataFrame, prompts: int) -> Index:
    prompt = frame["prompt"].to_numpy()
    starts = group_starts(prompt)
    counts = np.zeros(prompts, np.intp)
    counts[prompt[starts]] = np.diff(starts, append=len(prompt))
    return counts


def _selected(codes: Codes) -> Index:
    return np.flatnonzero(codes == ROW_CODE[RowOutcome.SELECTED])


def _check(candidates: pl.DataFrame, prompts: int) -> None:
    prompt = candidates["prompt"].to_numpy()
    if len(prompt) and not (np.all(prompt[1:] >= prompt[:-1]) and prompt[-1] < prompts):
        raise ValueError(
            f"candidates are not sorted by prompt numbers below {prompts}: sort them and count all prompts"
        )
    if not candidates["score"].is_finite().all():
        raise ValueError("a candidate's score is NaN or infinite, expected a finite number or null")
