"""`PreferenceStream`: the one thing a trainer reads from.

Rows come in micro-batches from a source: drawn live, or of a version. A micro-batch is recorded before its first row is
served. The stream owns the clock: the trainer reports every optimizer step, and the stream decides whether the sampler
gets the learner's weights, the reference moves, and which waiting rows have become too stale to serve.

Where several processes train together, each has such a stream with the same waiting rows, and serves its share.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from prefkit.errors import DamageError, RecipeError
from prefkit.stream.clock import Clock
from prefkit.stream.events import Drop, End, NewRows, Reset, Sync
from prefkit.stream.protocol import Row, Source, Weights
from prefkit.stream.ranked import RankedKeeper, RankedTape
from prefkit.stream.ranks import Share
from prefkit.stream.state import REFERENCE, SAMPLER, StreamState
from prefkit.stream.tallies import SELECT, Tallies

IDLE = 50
"""So many micro-batches in a row without a single row end the run: nothing would ever come."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A row that was recorded and is not served yet."""

    number: int
    row: Row
    known: pa.Table
    """The same row, as it was recorded."""


class PreferenceStream:
    """Rows for the trainer of a process; see `prefkit.stream.protocol.TrainingStream`."""

    def __init__(
        self, source: Source, clock: Clock, tape: RankedTape, keeper: RankedKeeper, share: Share | None = None
    ) -> None:
        self._source = source
        self._clock = clock
        self._tape = tape
        self._keeper = keeper
        self._share = share or Share()
        self._waiting: deque[Waiting] = deque()
        self._own: deque[Row] = deque()
        """The rest of this rank's part of the chunk that is being served."""
        self._tallies = Tallies()
        self._cursor = self._recorded = self._served = self._step = 0
        self._policy_version = self._reference_version = 0
        self._synced: str | None = None
        """What the learner's weights must be where they are the sampler's as well."""

    # ------------------------------------------------------------------------------------------------------- the rows

    def rows(self) -> Iterator[Row]:
        """See TrainingStream."""
        while self._own or self._next_chunk():
            yield self._own.popleft()

    def _next_chunk(self) -> bool:
        """Takes the rows that the ranks serve next, and keeps this one's part. False when there are none left.

        A source may end within a chunk; every rank must have as many rows as the others, so the last few may be left.
        """
        wanted = self._share.chunk(self._served)
        while len(self._waiting) < wanted and self._refill():
            pass
        count = min(wanted, len(self._waiting))
        chunk = [self._waiting.popleft() for _ in range(count - count % self._share.ranks.size)]
        for waiting in chunk:
            self._tallies.served(waiting.known, self._step)
        self._served += len(chunk)
        self._own.extend(waiting.row for waiting in self._share.own(chunk))
        return bool(chunk)

    def _refill(self) -> bool:
        """Brings more rows to wait. False when the source has ended; RecipeError when it goes on without any."""
        fates = Counter[str]()
        for _ in range(IDLE):
            taken = self._tape.played(self._cursor, self._policy_version) or self._drawn()
            if taken is None:
                return False
            self._take(taken)
            if taken.batch.rows.num_rows:
                return True
            fates.update(taken.batch.outcomes.get(SELECT, {}))
        told = ", ".join(f"{count} {outcome}" for outcome, count in fates.most_common())
        raise RecipeError(
            f"{IDLE} micro-batches in a row gave no row to train on ({told}), expected some: let the policy draw more "
            "completions (sample.n), or choose prompts that it solves sometimes"
        )

    def _drawn(self) -> NewRows | None:
        self._source.begin_attempt(self._tape.place.attempt)
        batch = self._source.micro_batch(self._cursor)
        if batch is None:
            return None
        drawn = NewRows(self._recorded, batch)
        self._tape.record(drawn)
        return drawn

    def _take(self, taken: NewRows) -> None:
        self._tallies.drawn(taken.batch)
        rows = taken.batch.rows
        self._waiting.extend(
            Waiting(taken.first_row + place, row, rows.slice(place, 1)) for place, row in enumerate(rows.to_pylist())
        )
        self._recorded = taken.first_row + rows.num_rows
        self._cursor = taken.batch.cursor + taken.batch.prompts

    # ------------------------------------------------------------------------------------------------------ the clock

    def begin(self, step: int, weights: Weights) -> None:
        """See TrainingStream. A sampler begins with the learner's weights; later it goes on with those it had."""
        self._step = step
        if self._clock.sync_period is not None and self._policy_version == step:
            self._require_recorded(step, weights)
            self._source.sync(weights, step)
            if step == 0:
                self._tape.tell(Sync(0, 0, weights.digest()))
        if step and self._reference_version == step:
            self._source.reset_reference(weights, step)

    def _require_recorded(self, step: int, weights: Weights) -> None:
        if self._synced is not None and weights.digest() != self._synced:
            raise DamageError(
                f"checkpoint-{step} has other weights than the recording says were synchronised after step {step}: "
                "put back the run's own checkpoint, or remove it to go on from an earlier one"
            )

    def step_done(self, step: int, weights: Weights) -> Mapping[str, float]:
        """See TrainingStream."""
        self._step = step
        if self._clock.resets_at(step):
            self._source.reset_reference(weights, step)
            self._tape.tell(Reset(step, weights.digest()))
            self._reference_version = step
            self._keeper.sent(REFERENCE, weights, step, self._clock.reference_reset_period)
        stale = self._drop_stale(step)
        if self._clock.syncs_at(step):
            self._source.sync(weights, step)
            self._tape.tell(Sync(step, step, weights.digest(), stale))
            self._policy_version = step
            self._keeper.sent(SAMPLER, weights, step, self._clock.sync_period)
        elif stale:
            self._tape.tell(Drop(step, stale))
        return self._tallies.take()

    def _drop_stale(self, step: int) -> tuple[int, ...]:
        """Drops the waiting rows that may not be served any more, and returns their numbers."""
        fresh = deque[Waiting]()
        stale: list[int] = []
        for waiting in self._waiting:
            version = waiting.row["policy_version"]
            assert version is None or isinstance(version, int)
            stays = self._clock.fresh(version, step)
            fresh.append(waiting) if stays else stale.append(waiting.number)
        self._waiting = fresh
        self._tallies.dropped(len(stale))
        return tuple(stale)

    # ------------------------------------------------------------------------------------------------ save and resume

    def save(self, step: int, weights: Weights) -> None:
        """See TrainingStream."""
        place = self._tape.place
        attempt, frames = place.position
        state = StreamState(
            run_id=place.run_id,
            step=step,
            attempt=attempt,
            frames=frames,
            cursors={"": self._cursor},
            waiting=tuple(waiting.number for waiting in self._waiting),
            rows_recorded=self._recorded,
            rows_served=self._served,
            policy_version=self._policy_version,
            reference_version=self._reference_version,
        )
        self._keeper.save(state)

    def restore(
        self,
        state: StreamState,
        waiting: Mapping[int, pa.Table],
        synced: str | None,
        opened: Callable[[Path], Weights],
    ) -> None:
        """Goes on where the state was written; before `begin`.

        `waiting` has the rows of the state's numbers, `synced` is the digest of the last sync before it; `opened` opens
        weights that a state holds.
        """
        self._synced = synced
        self._cursor, self._step = state.cursors[""], state.step
        self._recorded, self._served = state.rows_recorded, state.rows_served
        self._policy_version, self._reference_version = state.policy_version, state.reference_version
        self._waiting = deque(Waiting(n, waiting[n].to_pylist()[0], waiting[n]) for n in state.waiting)
        if (sampler := self._keeper.resumed(SAMPLER, state)) is not None:
            self._source.sync(opened(sampler), state.policy_version)
        if (reference := self._keeper.resumed(REFERENCE, state)) is not None:
            self._source.reset_reference(opened(reference), state.reference_version)

    def saved(self, step: int) -> None:
        """See TrainingStream."""
        self._keeper.saved(step)

    def end(self) -> None:
        """Training is over: the recording says so, and is closed."""
        self._tape.tell(End(self._step, self._served))
        self.close()

    def close(self) -> None:
        """Lets others go on with the recording."""
        self._tape.close()
