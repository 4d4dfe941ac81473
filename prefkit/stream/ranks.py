"""Ranks: the processes that train one model together, and how they come to the same decisions.

Every rank holds the whole queue of rows, in the same order, and serves its share of it. So all of them decide alike,
and reach the same exchanges in the same order. What only the first rank knows is told to all (`from_first`); what each
of them makes is put together (`from_each`), or stays where it is (`on_each`). A failure on one rank is raised on all:
errors travel as values, so that nobody waits for a rank that has stopped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, TypeVar, cast

from prefkit.errors import PrefkitError, RankError

T = TypeVar("T")


class Ranks(Protocol):
    """The processes of a run; all of them call the same methods in the same order."""

    @property
    def rank(self) -> int:
        """Which of them this one is; 0 is the first."""
        ...

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    def all_gather(self, value: object) -> list[object]:
        """What each of them gave, by rank."""
        ...

    def broadcast(self, value: object) -> object:
        """What the first of them gave."""
        ...


class Alone:
    """A process that trains by itself."""

    rank = 0
    size = 1

    def all_gather(self, value: object) -> list[object]:
        """See Ranks."""
        return [value]

    def broadcast(self, value: object) -> object:
        """See Ranks."""
        return value


@dataclass(frozen=True, slots=True)
class Share:
    """Which rows a rank serves: of every chunk of consecutive rows, cut into as many equal parts as there are ranks,
    its part. So the ranks together train on the rows of one process whose batch is a whole chunk, step by step.
    """

    ranks: Ranks = field(default_factory=Alone)
    batch: int = 1
    """Rows of a chunk for each rank."""
    rows: int | None = None
    """Rows of the run from start to end, for all ranks together; None where it has no end."""

    def chunk(self, served: int) -> int:
        """How many rows the next chunk has when so many were served before it; 0 at the end."""
        whole = self.batch * self.ranks.size
        return whole if self.rows is None else max(0, min(whole, self.rows - served))

    def own(self, chunk: Sequence[T]) -> Sequence[T]:
        """This rank's part of a chunk, whose length the number of ranks divides."""
        each = len(chunk) // self.ranks.size
        return chunk[self.ranks.rank * each : (self.ranks.rank + 1) * each]


@dataclass(frozen=True, slots=True)
class _Done:
    value: object


@dataclass(frozen=True, slots=True)
class _Failed:
    error: PrefkitError


_Outcome: TypeAlias = _Done | _Failed


def from_first(ranks: Ranks, work: Callable[[], T]) -> T:
    """What the first rank's work gives, on every rank; the others do nothing. Its error is raised on all."""
    if ranks.rank:
        return cast(T, _values([cast(_Outcome, ranks.broadcast(None))])[0])
    try:
        value = work()
    except Exception as error:
        ranks.broadcast(_failed(ranks, error))
        raise
    ranks.broadcast(_Done(value))
    return value


def on_each(ranks: Ranks, work: Callable[[], T]) -> T:
    """What this rank's work gives, once that of every rank is done. The error of any is raised on all."""
    try:
        value = work()
    except Exception as error:
        ranks.all_gather(_failed(ranks, error))
        raise
    _values(cast(list[_Outcome], ranks.all_gather(_Done(None))))
    return value


def from_each(ranks: Ranks, work: Callable[[], T]) -> list[T]:
    """What the work of every rank gives, by rank. The error of any is raised on all."""
    return cast(list[T], ranks.all_gather(on_each(ranks, work)))


def _values(outcomes: Sequence[_Outcome]) -> list[object]:
    values: list[object] = []
    for outcome in outcomes:
        if isinstance(outcome, _Failed):
            raise outcome.error
        values.append(outcome.value)
    return values


def _failed(ranks: Ranks, error: Exception) -> _Failed:
    """The error as others raise it: their user's mistakes as they are, a bug in one line."""
    if isinstance(error, PrefkitError):
        return _Failed(error)
    first_line = str(error).partition("\n")[0]
    return _Failed(
        RankError(
            f"process {ranks.rank} of {ranks.size} stopped with {type(error).__name__}: {first_line}; its traceback "
            "says where"
        )
    )
