"""How far a policy has moved: log-probs of its own completions under the start, as facts, less those it sampled with.

A prompt behind a system message is a prompt of its own: the start reads what the policy has read.
"""

import polars as pl

from prefkit.errors import LedgerError
from prefkit.pipeline.check.behind_system import Read, as_read
from prefkit.pipeline.check.logps import known_logps, unknown
from prefkit.pipeline.check.reference_maker import LocalReference


def log_ratios(completions: pl.DataFrame, prompts: Read, reference: LocalReference) -> pl.Series:
    """The log-prob of each completion under the start less that under its own policy, in nats; null where unknown.

    `completions` have `completion_id`, `prompt_id`, `token_ids` and `behavior_logps`; `prompts` says as which prompt
    each one is read. Not known of completions whose tokens the start does not read as the same text.
    """
    texts = completions.select("completion_id", as_read("prompt_id", prompts))
    known = _known(texts, reference)
    if reference.score(known):
        known = _known(texts, reference)
    if missing := unknown(known).height:
        raise LedgerError(f"{missing} of {known.height} log-probs have no fact after they were computed, expected all")
    same = ~known["cut"] & ~known["retokenised"] & (known["tokens"] == completions["token_ids"].list.len())
    ratio = known["logps"] - completions["behavior_logps"]
    return pl.select(log_ratio=pl.when(same).then(ratio)).to_series()


def _known(texts: pl.DataFrame, reference: LocalReference) -> pl.DataFrame:
    return known_logps(reference.facts, reference.yardstick, texts, reference.facts.heads())
