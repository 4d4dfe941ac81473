"""Looking up many 16-byte ids at once: several times faster than a join, and a batch at a time."""

import numpy as np
import numpy.typing as npt

from prefkit.identity import Words

_ODD = 0x9E3779B97F4A7C15


class IdIndex:
    """Where ids stand in a column that holds each of them once.

    A table addressed by a hash of the id gives one candidate, which is then compared. Ids that lost their slot to
    another one are in a smaller index of the same kind. Ids are given as `id_words`, shape [rows, 2].
    """

    def __init__(self, known: Words, level: int = 0) -> None:
        bits = len(known).bit_length() + 2
        self._factor = np.uint64(_ODD * (2 * level + 1) % 2**64)
        self._shift = np.uint64(64 - bits)
        self._low, self._high = np.ascontiguousarray(known[:, 0]), np.ascontiguousarray(known[:, 1])
        self._table = np.full(1 << bits, -1, np.int32)
        slots, numbers = self._slots(known), np.arange(len(known), dtype=np.int32)
        self._table[slots] = numbers
        self._lost = np.flatnonzero(self._table[slots] != numbers)
        self._others = IdIndex(known[self._lost], level + 1) if len(self._lost) else None

    def places(self, ids: Words) -> npt.NDArray[np.int64]:
        """The place of each id, -1 where it is not known."""
        if not len(self._low):
            return np.full(len(ids), -1, np.int64)
        places = self._table[self._slots(ids)].astype(np.int64)
        other = (self._low[places] != ids[:, 0]) | (self._high[places] != ids[:, 1])
        missed = np.flatnonzero(other & (places >= 0))
        places[missed] = self._among_others(ids[missed])
        return places

    def _slots(self, words: Words) -> Words:
        with np.errstate(over="ignore"):
            return (words[:, 0] * self._factor + words[:, 1]) >> self._shift

    def _among_others(self, ids: Words) -> npt.NDArray[np.int64]:
        if self._others is None:
            return np.full(len(ids), -1, np.int64)
        places = self._others.places(ids)
        return np.where(places < 0, -1, self._lost[places])
