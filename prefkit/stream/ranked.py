"""What a stream reads from and writes to, as all ranks share it: one source, one tape, one place for what is kept.

Only the first rank writes. Methods are called on all ranks at the same place, and fail on all when they fail on one.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from prefkit.errors import RankError
from prefkit.stream.events import NewRows
from prefkit.stream.kept import Keeper, SavesAt, are_needed
from prefkit.stream.protocol import MicroBatch, Source, Weights
from prefkit.stream.ranks import Ranks, from_each, from_first, on_each
from prefkit.stream.state import StreamState
from prefkit.stream.tape import Place, Tape, Told


class RankedSource:
    """A `Source` whose micro-batches are computed in rounds: rank k makes the k-th next one, and all get all of them.

    Those that are not asked for yet are set aside. When the weights they come from are no longer the ones to sample
    from, they are forgotten, and will be made anew: so there are the same micro-batches whatever the number of ranks.
    """

    def __init__(self, source: Source, ranks: Ranks) -> None:
        self._source = source
        self._ranks = ranks
        self._aside: dict[int, MicroBatch] = {}
        self._attempt: int | None = None

    @property
    def policy_version(self) -> int:
        """See Source."""
        return self._source.policy_version

    def begin_attempt(self, attempt: int) -> None:
        """See Source."""
        if attempt != self._attempt:
            self._aside.clear()
        self._attempt = attempt
        self._source.begin_attempt(attempt)

    def prompts_at(self, cursor: int) -> int:
        """See Source."""
        return self._source.prompts_at(cursor)

    def micro_batch(self, cursor: int) -> MicroBatch | None:
        """See Source."""
        if cursor not in self._aside:
            self._aside = self._round(cursor)
        return self._aside.pop(cursor, None)

    def _round(self, cursor: int) -> dict[int, MicroBatch]:
        for _ in range(self._ranks.rank):
            cursor += self._source.prompts_at(cursor)
        made = from_each(self._ranks, partial(self._source.micro_batch, cursor))
        return {batch.cursor: batch for batch in made if batch is not None}

    def sync(self, weights: Weights, policy_version: int) -> None:
        """See Source."""
        self._aside.clear()
        on_each(self._ranks, partial(self._source.sync, weights, policy_version))

    def reset_reference(self, weights: Weights, policy_version: int) -> None:
        """See Source. Rows hold what the reference says of them."""
        self._aside.clear()
        on_each(self._ranks, partial(self._source.reset_reference, weights, policy_version))


class RankedTape:
    """The first rank's tape, which all ranks follow; `opened` opens it there."""

    def __init__(self, ranks: Ranks, opened: Callable[[], Tape]) -> None:
        self._ranks = ranks
        self._tape: Tape | None = None
        self.place = from_first(ranks, lambda: self._open(opened))
        """Where it stands."""

    def _open(self, opened: Callable[[], Tape]) -> Place:
        self._tape = opened()
        return self._tape.place

    def played(self, source: str, cursor: int, policy_version: int) -> NewRows | None:
        """See Tape."""
        event, self.place = from_first(
            self._ranks, lambda: (self._held.played(source, cursor, policy_version), self._held.place)
        )
        return event

    def record(self, drawn: NewRows) -> None:
        """See Tape."""
        self.place = from_first(self._ranks, lambda: self._held.record(drawn))

    def tell(self, event: Told) -> None:
        """See Tape. Raises RankError when the ranks do not tell the same: their weights differ."""
        if len(told := set(from_each(self._ranks, lambda: event))) > 1:
            raise RankError(
                f"{len(told)} different events of {self._ranks.size} processes after one step, expected the same "
                f"weights on all of them ({event}): see that every process trains the same model"
            )
        self.place = from_first(self._ranks, lambda: self._held.tell(event))

    def close(self) -> None:
        """See Tape. No exchange: it may be closed because another rank has stopped."""
        if self._tape is not None:
            self._tape.close()

    @property
    def _held(self) -> Tape:
        assert self._tape is not None, "only the first rank asks"
        return self._tape


class RankedKeeper:
    """The first rank's keeper; the others give what their weights need of them."""

    def __init__(self, ranks: Ranks, folder: Path, saves_at: SavesAt) -> None:
        self._ranks = ranks
        self._saves_at = saves_at
        self._keeper = Keeper(folder, saves_at)

    def sent(self, model: str, weights: Weights, version: int, period: float | None) -> None:
        """See Keeper."""
        keep = self._give if self._ranks.rank else partial(self._keeper.sent, model)
        on_each(self._ranks, partial(keep, weights, version, period))

    def _give(self, weights: Weights, version: int, period: float | None) -> None:
        """Reads the weights as the first rank does: where they are sharded, every rank has to take part."""
        if are_needed(version, period, self._saves_at):
            for _ in weights.tensors():
                pass
            weights.probe()

    def save(self, state: StreamState) -> None:
        """See Keeper."""
        from_first(self._ranks, partial(self._keeper.save, state))

    def saved(self, step: int) -> None:
        """See Keeper."""
        from_first(self._ranks, partial(self._keeper.saved, step))

    def resumed(self, model: str, state: StreamState) -> Path | None:
        """See Keeper. The folder is read by all ranks, as the trainer's checkpoints are."""
        return from_first(self._ranks, partial(self._keeper.resumed, model, state))
