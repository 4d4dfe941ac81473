"""Texts of similar length share a forward pass, so that little of it is padding."""

from collections.abc import Iterator, Sequence


def batches(lengths: Sequence[int], tokens: int, rows: int) -> Iterator[slice]:
    """Cuts texts, the longest first, into runs of at most `rows`, and of at most `tokens` padded to their longest.

    A text longer than `tokens` is a run of its own.
    """
    start = 0
    while start < len(lengths):
        end = min(start + max(1, min(rows, tokens // lengths[start])), len(lengths))
        yield slice(start, end)
        start = end
