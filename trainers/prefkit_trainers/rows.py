"""A stream's rows on their way to a trainer.

TRL insists on a `datasets` dataset, starts iterators over it while a trainer is constructed and drops what they gave.
So the trainer is constructed over one row that stands for all, and its loader reads the stream: nothing is consumed
before training starts.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from math import isfinite
from typing import cast

import torch
from datasets import IterableDataset

from prefkit.errors import SourceError
from prefkit.stream.protocol import Row, TrainingStream

TOKENS = ("prompt_ids", "chosen_ids", "rejected_ids")
LOGPS = ("ref_chosen_logps", "ref_rejected_logps")


class StreamRows(torch.utils.data.IterableDataset[dict[str, object]]):
    """At most `count` rows of a stream, with the columns that TRL's collator reads and no others.

    Raises SourceError for a row of another shape, or one that is longer than `max_length`: its stored reference sums
    are of all its tokens, so nothing may be cut from it here.
    """

    def __init__(self, stream: TrainingStream, count: int, max_length: int | None) -> None:
        self._stream = stream
        self._count = count
        self._max_length = max_length

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[dict[str, object]]:
        for row in islice(self._stream.rows(), self._count):
            yield trained_columns(row, self._max_length)


def stand_in() -> IterableDataset:
    """A dataset of one row for whoever looks at columns before there are rows."""
    return IterableDataset.from_generator(_one_row)


def trained_columns(row: Row, max_length: int | None) -> dict[str, object]:
    """The columns of a row that TRL's collator reads."""
    missing = [name for name in (*TOKENS, *LOGPS) if row.get(name) is None]
    if missing:
        raise SourceError(
            f"a row has no {missing[0]!r}, expected {', '.join((*TOKENS, *LOGPS))}: train on pairs with tokens and "
            "sums of reference log-probs"
        )
    ids = {name: [int(token) for token in cast(Sequence[int], row[name])] for name in TOKENS}
    _require_lengths(ids, max_length)
    return {**ids, **{name: _finite(name, row[name]) for name in LOGPS}}


def _require_lengths(ids: dict[str, list[int]], max_length: int | None) -> None:
    empty = [name for name in TOKENS if not ids[name]]
    if empty:
        raise SourceError(f"a row has no tokens in {empty[0]!r}, expected at least one: leave such pairs out")
    longest = len(ids["prompt_ids"]) + max(len(ids["chosen_ids"]), len(ids["rejected_ids"]))
    if max_length is not None and longest > max_length:
        raise SourceError(
            f"a row has {longest} tokens, expected at most the {max_length} of train.args.max_length, to which rows "
            "are cut before their reference sums are made: raise it, or make the rows anew"
        )


def _finite(name: str, value: object) -> float:
    number = float(cast(float, value))
    if not isfinite(number):
        raise SourceError(
            f"a row has {number} as {name!r}, expected a sum of log-probs: where the sampler gave none, use another "
            "`train.reference`"
        )
    return number


def _one_row() -> Iterator[dict[str, object]]:
    yield {**{name: [0] for name in TOKENS}, **dict.fromkeys(LOGPS, 0.0)}
