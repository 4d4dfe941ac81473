"""From pairs of a version, or of a micro-batch, to the rows a trainer reads: the tokens as trained and the sums of the
reference's log-probs over exactly these tokens.

Sampled completions keep the tokens they were sampled as; texts are tokenised as TRL's DPOTrainer does. A pair of which
`max_length` leaves a side without a token teaches nothing, and one without reference sums cannot: both are outcomes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import polars as pl
import pyarrow as pa

from prefkit.records import ID
from prefkit.sampling.protocol import with_system
from prefkit.shift.live import Tokens
from prefkit.shift.protocol import Logprobs, ReferenceModel, Text, Trained

TOKENS = pa.list_(pa.int32())
ROWS = pa.schema(
    [
        ("row_id", ID), ("prompt_id", ID), ("chosen_id", ID), ("rejected_id", ID),
        ("prompt_ids", TOKENS), ("chosen_ids", TOKENS), ("rejected_ids", TOKENS),
        ("ref_chosen_logps", pa.float64()), ("ref_rejected_logps", pa.float64()),
        ("chosen_score", pa.float64()), ("rejected_score", pa.float64()), ("score_margin", pa.float64()),
        ("source", pa.string()), ("policy_version", pa.int64()),
    ]
)  # fmt: skip
"""What a trainer of pairs may see, and a recording keeps. `policy_version` is null for rows not sampled by the run."""
TRAINABLE = "trainable"
NO_TOKENS_LEFT = "no_tokens_left"
NO_REFERENCE = "no_reference"
"""Its sampler gave no log-probs, and it is to be its own reference."""
SIDES = ("chosen", "rejected")
SCORES = ("chosen_scores", "rejected_scores")
"""Columns beside those of ROWS: per aspect, as in a version."""


@dataclass(frozen=True, slots=True)
class Known:
    """What came with a completion."""

    behavior_logps: float | None
    """Its sampler's sum over all its tokens."""
    behavior_logprobs: Sequence[float] | None = None
    """The same per token."""
    ref_logps: float | None = None
    """The reference's sum over the tokens as trained, where the version holds it."""


class ReferenceSums(Protocol):
    """Where the reference's sums of log-probs come from."""

    def sums(self, rows: Sequence[Trained], known: Sequence[Known]) -> list[float]:
        """Per row, the sum over its completion's tokens in nats; NaN where nobody knows it."""
        ...


class BehaviorSums:
    """The policy that sampled a row is its own reference: no second model."""

    def sums(self, rows: Sequence[Trained], known: Sequence[Known]) -> list[float]:
        """The sampler's log-probs of the tokens that are left."""
        return [_behavior(row, its) for row, its in zip(rows, known, strict=True)]


class StoredSums:
    """The version holds them: no second model."""

    def sums(self, rows: Sequence[Trained], known: Sequence[Known]) -> list[float]:
        """As they were checked in."""
        return [math.nan if its.ref_logps is None else its.ref_logps for its in known]


@dataclass(frozen=True, slots=True)
class ModelSums:
    """A reference model that is held in memory."""

    model: ReferenceModel

    def sums(self, rows: Sequence[Trained], known: Sequence[Known]) -> list[float]:
        """The model's log-probs, summed."""
        found: dict[bytes, Logprobs] = {}
        for batch in self.model.logprobs(rows):
            found |= {scored.id: scored for scored in batch}
        return [sum(found[row.id].logprobs) for row in rows]


def trained_pairs(
    pairs: pl.DataFrame, tokens: Tokens, reference: ReferenceSums, max_length: int | None, system: str | None
) -> tuple[pa.Table, pl.Series]:
    """The rows of ROWS that are trainable, in the order of `pairs`, and the `outcome` of every pair.

    `pairs` has the columns of a version's pairs, `policy_version` and, where they are known, `<side>_behavior_logprobs`
    per token. `system` is the sampler's own system message, which the trainer sees as the sampler did.
    """
    sides = [tokens.trained([_text(row, s, system) for row in pairs.iter_rows(named=True)], None) for s in SIDES]
    cut = [_cut(chosen, rejected, max_length) for chosen, rejected in zip(*sides, strict=True)]
    left = pl.Series([bool(chosen.tokens and rejected.tokens) for chosen, rejected in cut], dtype=pl.Boolean)
    kept, rows = pairs.filter(left), [pair for pair, stays in zip(cut, left, strict=True) if stays]
    # Both sides in one call: a reference model reads the prompt they share once.
    known = [_known(row, side) for side in SIDES for row in kept.iter_rows(named=True)]
    sums = reference.sums([pair[place] for place in (0, 1) for pair in rows], known)
    table = kept.select(
        "prompt_id", "chosen_id", "rejected_id", "chosen_score", "rejected_score", "score_margin", "source",
        "policy_version", *SCORES, row_id="pair_id",
    ).with_columns(
        pl.Series("prompt_ids", [chosen.prompt_ids for chosen, _ in rows], pl.List(pl.Int32)),
        pl.Series("chosen_ids", [chosen.completion_ids for chosen, _ in rows], pl.List(pl.Int32)),
        pl.Series("rejected_ids", [rejected.completion_ids for _, rejected in rows], pl.List(pl.Int32)),
        pl.Series("ref_chosen_logps", sums[: len(rows)], pl.Float64),
        pl.Series("ref_rejected_logps", sums[len(rows) :], pl.Float64),
    )  # fmt: skip
    scored = table.select(pl.all_horizontal(pl.col("ref_chosen_logps", "ref_rejected_logps").is_finite())).to_series()
    outcome = pl.Series("outcome", [NO_TOKENS_LEFT] * pairs.height, pl.String)
    outcome = outcome.scatter(left.arg_true(), scored.replace_strict({True: TRAINABLE, False: NO_REFERENCE}))
    found = table.filter(scored).to_arrow(compat_level=pl.CompatLevel.oldest())
    trainable = found.select(ROWS.names).cast(ROWS)
    for name in SCORES:
        trainable = trainable.append_column(name, found[name])
    return trainable, outcome


def _text(row: dict[str, object], side: str, system: str | None) -> Text:
    prompt = with_system(row["prompt"], system)  # type: ignore[arg-type]
    return Text(row[f"{side}_id"], prompt, row[side], row[f"{side}_token_ids"])  # type: ignore[arg-type]


def _known(row: dict[str, object], side: str) -> Known:
    names = (f"behavior_{side}_logps", f"{side}_behavior_logprobs", f"ref_{side}_logps")
    return Known(*(row.get(name) for name in names))  # type: ignore[arg-type]


def _behavior(row: Trained, known: Known) -> float:
    if row.retokenised:
        return math.nan  # its sampler said nothing about these tokens
    if not row.cut and known.behavior_logps is not None:
        return known.behavior_logps
    return math.nan if known.behavior_logprobs is None else sum(known.behavior_logprobs[: row.tokens])


def _cut(chosen: Trained, rejected: Trained, max_length: int | None) -> tuple[Trained, Trained]:
    """The pair with one prompt, as TRL has it: where a template makes the sides part early, the earlier place."""
    shared = min(len(chosen.prompt_ids), len(rejected.prompt_ids))
    return _cut_side(chosen, shared, max_length), _cut_side(rejected, shared, max_length)


def _cut_side(side: Trained, prompt_tokens: int, max_length: int | None) -> Trained:
    completion = [*side.prompt_ids[prompt_tokens:], *side.completion_ids]
    kept = completion if max_length is None else completion[: max(0, max_length - prompt_tokens)]
    return replace(
        side, prompt_ids=side.prompt_ids[:prompt_tokens], completion_ids=kept, cut=len(completion) - len(kept)
    )
