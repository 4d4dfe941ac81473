"""The rows of a version as a stream: every row once an epoch, each epoch in an order of its own, without end."""

import numpy as np
import polars as pl
import pyarrow as pa

from prefkit.errors import SourceError, SyncError
from prefkit.pipeline.training.rows import ROWS, TRAINABLE, ReferenceSums, trained_pairs
from prefkit.shift.live import Tokens
from prefkit.stream.order import prompt_places
from prefkit.stream.protocol import MicroBatch, Weights

CHUNK = 512
"""Rows that are tokenised and scored together, and rows of a micro-batch."""


def stored_rows(
    pairs: pl.DataFrame, tokens: Tokens, reference: ReferenceSums, max_length: int | None, system: str | None
) -> pa.Table:
    """The trainable rows of a version's pairs, in their order. Raises SourceError when there are none."""
    pairs = pairs.with_columns(policy_version=pl.lit(None, pl.Int64))
    parts: list[pa.Table] = []
    outcomes: list[pl.Series] = []
    for start in range(0, pairs.height, CHUNK):
        rows, outcome = trained_pairs(pairs.slice(start, CHUNK), tokens, reference, max_length, system)
        parts.append(rows)
        outcomes.append(outcome)
    found = pa.concat_tables(parts)
    if not found.num_rows:
        counts = pl.concat(outcomes).value_counts().iter_rows()
        told = ", ".join(f"{count} {outcome}" for outcome, count in counts if outcome != TRAINABLE)
        raise SourceError(
            f"none of {pairs.height} rows can be trained on ({told}), expected some: see train.args.max_length"
        )
    return found


class StoredSource:
    """A `Source` over finished rows; a cursor counts rows."""

    def __init__(self, rows: pa.Table, seed: int) -> None:
        self._rows = rows.select(ROWS.names)
        self._seed = seed

    def prompts_at(self, cursor: int) -> int:
        """See Source; an epoch has whole chunks and a rest."""
        return min(CHUNK, self._rows.num_rows - cursor % self._rows.num_rows)

    def micro_batch(self, cursor: int) -> MicroBatch:
        """See Source; it never ends."""
        places, _ = prompt_places(self._rows.num_rows, self._seed, cursor, self.prompts_at(cursor))
        return MicroBatch(cursor, len(places), 0, self._rows.take(np.asarray(places)))

    @property
    def policy_version(self) -> int:
        """See Source: nothing is sampled."""
        return 0

    def begin_attempt(self, attempt: int) -> None:
        """See Source."""

    def sync(self, weights: Weights, policy_version: int) -> None:
        """See Source: its rows are what they were."""

    def reset_reference(self, weights: Weights, policy_version: int) -> None:
        """See Source."""
        raise SyncError("a stored version has no reference model, expected no reset: set train.reference to fixed")
