"""From results that come one by one to batches worth a durable commit."""

import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from prefkit.errors import PrefkitError

Result = TypeVar("Result")

PATIENCE_S = 5.0
"""Results that have waited for so long are handed on, however few they are."""


def gathered(results: Iterator[Sequence[Result]], size: int) -> Iterator[Sequence[Result]]:
    """Yields at least `size` results at a time, or those that came within PATIENCE_S, and the rest at the end.

    When `results` ends in one of our own errors, what came before it is yielded first.
    """
    batch: list[Result] = []
    since = time.monotonic()
    try:
        for some in results:
            batch += some
            if batch and (len(batch) >= size or time.monotonic() - since > PATIENCE_S):
                yield batch
                batch, since = [], time.monotonic()
    except PrefkitError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch
