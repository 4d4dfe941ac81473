"""Completion hygiene, and the candidates: the completions that may be scored and selected, numbered."""

from collections.abc import Sequence

import polars as pl

from prefkit.hygiene.config import HygieneConfig
from prefkit.hygiene.outcomes import completion_outcomes
from prefkit.pipeline.draws import SAMPLED
from prefkit.records import COMPLETIONS
from prefkit.store.facts import FactStore, settled

KEPT = "kept"
IMPORTED = "imported"
DRAW_COLUMNS = (pl.col("completion").list.last().struct.field("content").alias("text"), pl.col("finish_reason"))
"""What of a draw hygiene looks at: the text of its last message, and why it ended."""
_CANDIDATE = ("prompt", "prompt_id", "block", "sample_index", "completion_id", "text", "finish_reason")


def usable(completions: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The drawn and imported completions that there are, together, sorted by prompt, block and index."""
    parts = [rows.filter(pl.col("outcome").is_in([SAMPLED, IMPORTED])).select(_CANDIDATE) for rows in completions]
    parts = [part for part in parts if part.height] or parts[:1]
    return parts[0] if len(parts) == 1 else pl.concat(parts).sort("prompt", "block", "sample_index")


def cleaned(completions: pl.DataFrame, hygiene: HygieneConfig) -> pl.DataFrame:
    """The completions with a hygiene `outcome` each; they are sorted by prompt, block and index."""
    defects = completion_outcomes(completions.select("prompt", "text", "finish_reason"), hygiene)
    return completions.with_columns(outcome=defects.cast(pl.String).fill_null(KEPT))


def candidates_of(completions: pl.DataFrame) -> pl.DataFrame:
    """The kept completions with their dense number `candidate`, 0 upwards."""
    return completions.filter(pl.col("outcome") == KEPT).drop("outcome").with_row_index("candidate")


def with_bodies(facts: FactStore, candidates: pl.DataFrame, at: int) -> pl.DataFrame:
    """The candidates with what is too large to carry for all of them: messages, tokens, log-probs, policy.

    `completion`, `token_ids`, `behavior_logps` (null for imported ones), `policy_id`, `policy_version`.
    """
    settling = ["id", "batch_id", "transient", "attempt"]
    columns = [*settling, "completion", "token_ids", "behavior_logprobs", "policy_id", "policy_version"]
    found = settled(facts.gather(COMPLETIONS, columns, candidates["completion_id"], at))
    logps = pl.col("behavior_logprobs").list.eval(pl.element().cast(pl.Float64)).list.sum()
    known = pl.col("behavior_logprobs").is_not_null()
    bodies = found.select(
        "completion", "token_ids", "policy_id", "policy_version",
        completion_id="id", behavior_logps=pl.when(known).then(logps),
    )  # fmt: skip
    return candidates.join(bodies, on="completion_id", how="left", maintain_order="left")
