"""Which defect drops a prompt, a completion or a pair: the first in the order of `HygieneOutcome`, null when kept.

Truncation comes before mojibake, since a text cut inside a character ends in U+FFFD. Duplicates come last and count
only against completions that are kept, so dropping a defective text never drops a sound copy with it.
"""

from enum import StrEnum

import polars as pl

from prefkit.hygiene.config import HygieneConfig
from prefkit.hygiene.detectors import constant, duplicate, empty, leaked_tokens, mojibake, truncated


class HygieneOutcome(StrEnum):
    """The defect something was dropped for, in the order in which defects are looked for."""

    EMPTY = "empty"
    """The text has no visible character."""
    TRUNCATED = "truncated"
    """The completion ran into `max_new_tokens`."""
    LEAKED_TOKENS = "leaked_tokens"
    """The completion contains control tokens of a chat format."""
    MOJIBAKE = "mojibake"
    """The text was decoded wrongly."""
    CONSTANT = "constant"
    """The same long text is the completion of many prompts."""
    DUPLICATE = "duplicate"
    """An earlier completion of the same prompt, one that is kept, has the same text."""
    CHOSEN_EQUALS_REJECTED = "chosen_equals_rejected"
    """Both completions of the pair are the same but for white space around them."""


HYGIENE_OUTCOME = pl.Enum(HygieneOutcome)


def prompt_outcomes(texts: pl.DataFrame, config: HygieneConfig) -> pl.Series:
    """The outcome of each prompt; `texts` has the column `text`: everything the prompt says."""
    text = texts["text"]
    found: dict[HygieneOutcome, pl.Series] = {}
    if config.empty:
        found[HygieneOutcome.EMPTY] = empty(text)
    if config.mojibake:
        found[HygieneOutcome.MOJIBAKE] = mojibake(text)
    return _first(found, len(texts))


def completion_outcomes(completions: pl.DataFrame, config: HygieneConfig) -> pl.Series:
    """The outcome of each completion, from the columns `prompt`, `text` and `finish_reason` (null when unknown)."""
    text = completions["text"]
    found: dict[HygieneOutcome, pl.Series] = {}
    if config.empty:
        found[HygieneOutcome.EMPTY] = empty(text)
    if config.truncated:
        found[HygieneOutcome.TRUNCATED] = truncated(completions["finish_reason"])
    if config.leaked_tokens:
        found[HygieneOutcome.LEAKED_TOKENS] = leaked_tokens(text)
    if config.mojibake:
        found[HygieneOutcome.MOJIBAKE] = mojibake(text)
    if config.constant is not None:
        found[HygieneOutcome.CONSTANT] = constant(completions["prompt"], text, config.constant)
    outcomes = _first(found, len(completions))
    if config.duplicates == "exact":
        kept = outcomes.is_null()
        repeated = duplicate(completions["prompt"].filter(kept), text.filter(kept))
        outcomes = outcomes.scatter(kept.arg_true().filter(repeated), HygieneOutcome.DUPLICATE)
    return outcomes


def pair_outcomes(chosen: pl.Series, rejected: pl.Series) -> pl.Series:
    """`chosen_equals_rejected` for each pair whose two texts are equal after stripping white space, else null."""
    equal = chosen.str.strip_chars().eq_missing(rejected.str.strip_chars())
    return _first({HygieneOutcome.CHOSEN_EQUALS_REJECTED: equal}, len(chosen))


def _first(found: dict[HygieneOutcome, pl.Series], length: int) -> pl.Series:
    outcome = pl.repeat(None, length, dtype=HYGIENE_OUTCOME, eager=True).alias("outcome")
    for name, rows in reversed(found.items()):
        outcome = outcome.scatter(rows.arg_true(), name)
    return outcome
