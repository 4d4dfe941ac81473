"""What a stream draws from: one source, or several by name, which serve rows by the weights of a mix.

A source's rows wait in a queue of their own, and the mix says from which queue the next row is served. So shares are
of rows served, whatever a micro-batch gives: a source whose rows go stale, or whose prompts give few, draws more.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from prefkit.stream.mixing import Phase
from prefkit.stream.protocol import Row, Source

ONLY = ""
"""The name of a source that is no mix."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The sources of a stream, and when each serves: positions of the phases are optimizer steps."""

    by_name: Mapping[str, Source]
    phases: Sequence[Phase]

    @classmethod
    def only(cls, source: Source) -> "Sources":
        """One source, which serves every row."""
        return cls({ONLY: source}, (Phase({ONLY: 1.0}),))

    def through(self, wrapped: Callable[[Source], Source]) -> "Sources":
        """The same, each source wrapped."""
        return Sources({name: wrapped(source) for name, source in self.by_name.items()}, self.phases)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A row that was recorded and is not served yet."""

    number: int
    source: str
    row: Row
    known: pa.Table
    """The same row, as it was recorded."""
