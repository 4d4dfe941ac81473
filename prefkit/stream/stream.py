"""`PreferenceStream`: the one thing a trainer reads from.

Rows come in micro-batches from a source: drawn live, or of a version; or from several, row by row as a mix says. A
micro-batch is recorded before its first row is served. The stream owns the clock: the trainer reports every optimizer
step, and the stream decides whether the sampler gets the learner's weights, the reference moves, and which waiting rows
have become too stale to serve.

Where several processes train together, each has such a stream with the same waiting rows, and serves its share.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from prefkit.errors import DamageError, RecipeError
from prefkit.stream.clock import Clock
from prefkit.stream.events import Drop, End, NewRows, Reset, Serve, Sync
from prefkit.stream.mixing import Mix
from prefkit.stream.protocol import Row, Weights
from prefkit.stream.ranked import RankedKeeper, RankedTape
from prefkit.stream.ranks import Share
from prefkit.stream.sources import ONLY, Sources, Waiting
from prefkit.stream.state import REFERENCE, SAMPLER, StreamState
from prefkit.stream.tallies import LOSING, SURVIVED, Tallies
from prefkit.stream.timing import DRAW, SYNC, WallTime, time_shares

IDLE = 50
"""So many micro-batches in a row without a single row end the run: nothing would ever come."""


class PreferenceStream:
    """Rows for the trainer of a process; see `prefkit.stream.protocol.TrainingStream`."""

    def __init__(
        self, sources: Sources, clock: Clock, tape: RankedTape, keeper: RankedKeeper, share: Share | None = None
    ) -> None:
        self._sources = sources.by_name
        self._phases = sources.phases
        self._mix = Mix(sources.phases)
        self._clock = clock
        self._tape = tape
        self._keeper = keeper
        self._share = share or Share()
        self._waiting = {name: deque[Waiting]() for name in self._sources}
        self._own: deque[Row] = deque()
        """The rest of this rank's part of the chunk that is being served."""
        self._tallies = Tallies()
        self._time = WallTime()
        self._cursors = dict.fromkeys(self._sources, 0)
        self._recorded = self._served = self._step = 0
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

        Sources may end within a chunk; every rank must have as many rows as the others, so the last few may be left.
        """
        chunk: list[Waiting] = []
        wanted = self._share.chunk(self._served)
        while len(chunk) < wanted and (source := self._mix.turn(self._step)) is not None:
            if self._waiting[source] or self._refill(source):
                chunk.append(self._waiting[source].popleft())
                self._mix.took(source)
            else:
                self._mix.end(source)
        del chunk[len(chunk) - len(chunk) % self._share.ranks.size :]
        if chunk:
            self._serve(chunk)
        return bool(chunk)

    def _serve(self, chunk: list[Waiting]) -> None:
        if ONLY not in self._sources:
            self._tape.tell(Serve(tuple(waiting.number for waiting in chunk)))
        for waiting in chunk:
            self._tallies.served(waiting.known, self._step, waiting.source)
        self._served += len(chunk)
        self._own.extend(waiting.row for waiting in self._share.own(chunk))

    def _refill(self, source: str) -> bool:
        """Brings more of its rows to wait. False when the source has ended; RecipeError when it goes on without any."""
        fates = Counter[str]()
        for _ in range(IDLE):
            version = self._sources[source].policy_version
            with self._time.during(DRAW):
                taken = self._tape.played(source, self._cursors[source], version) or self._drawn(source)
            if taken is None:
                return False
            self._take(taken)
            if taken.batch.rows.num_rows:
                return True
            for stage in LOSING:
                fates.update(taken.batch.outcomes.get(stage, {}))
        told = ", ".join(f"{count} {outcome}" for outcome, count in fates.most_common() if outcome not in SURVIVED)
        raise RecipeError(
            f"{IDLE} micro-batches in a row gave no row to train on ({told}), expected some: let the policy draw more "
            "completions (sample.n), choose prompts that it solves sometimes, or raise train.args.max_length"
        )

    def _drawn(self, source: str) -> NewRows | None:
        self._sources[source].begin_attempt(self._tape.place.attempt)
        batch = self._sources[source].micro_batch(self._cursors[source])
        if batch is None:
            return None
        drawn = NewRows(self._recorded, batch, source)
        self._tape.record(drawn)
        for stage, seconds in batch.seconds.items():
            self._tallies.spent(stage, seconds / self._share.ranks.size)
        return drawn

    def _take(self, taken: NewRows) -> None:
        self._tallies.drawn(taken.batch)
        rows = taken.batch.rows
        self._waiting[taken.source].extend(
            Waiting(taken.first_row + place, taken.source, row, rows.slice(place, 1))
            for place, row in enumerate(rows.to_pylist())
        )
        self._recorded = taken.first_row + rows.num_rows
        self._cursors[taken.source] = taken.batch.cursor + taken.batch.prompts

    # ------------------------------------------------------------------------------------------------------ the clock

    def begin(self, step: int, weights: Weights) -> None:
        """See TrainingStream. A sampler begins with the learner's weights; later it goes on with those it had."""
        self._step = step
        if self._clock.sync_period is not None and self._policy_version == step:
            self._require_recorded(step, weights)
            self._sync(weights, step)
            if step == 0:
                self._tape.tell(Sync(0, 0, weights.digest()))
        if step and self._reference_version == step:
            self._reset_reference(weights, step)
        self._time.begin()

    def _sync(self, weights: Weights, policy_version: int) -> None:
        for source in self._sources.values():
            source.sync(weights, policy_version)

    def _reset_reference(self, weights: Weights, policy_version: int) -> None:
        for source in self._sources.values():
            source.reset_reference(weights, policy_version)

    def _require_recorded(self, step: int, weights: Weights) -> None:
        if self._synced is not None and weights.digest() != self._synced:
            raise DamageError(
                f"checkpoint-{step} has other weights than the recording says were synchronised after step {step}: "
                "put back the run's own checkpoint, or remove it to go on from an earlier one"
            )

    def step_done(self, step: int, weights: Weights) -> None:
        """See TrainingStream."""
        self._step = step
        with self._time.during(SYNC):
            self._move(step, weights)

    def metrics(self) -> Mapping[str, float]:
        """See TrainingStream; what they mean is said in `prefkit.stream.tallies`."""
        for what, seconds in self._time.take().items():
            self._tallies.spent(what, seconds)
        told = self._tallies.take()
        return told | time_shares(told)

    def _move(self, step: int, weights: Weights) -> None:
        """Sampler and reference get the weights of this step, where the clock says so; what is too stale is dropped."""
        if self._clock.resets_at(step):
            self._reset_reference(weights, step)
            self._tape.tell(Reset(step, weights.digest()))
            self._reference_version = step
            self._keeper.sent(REFERENCE, weights, step, self._clock.reference_reset_period)
        stale = self._drop_stale(step)
        if self._clock.syncs_at(step):
            self._sync(weights, step)
            self._tape.tell(Sync(step, step, weights.digest(), stale))
            self._policy_version = step
            self._keeper.sent(SAMPLER, weights, step, self._clock.sync_period)
        elif stale:
            self._tape.tell(Drop(step, stale))

    def _drop_stale(self, step: int) -> tuple[int, ...]:
        """Drops the waiting rows that may not be served any more, and returns their numbers."""
        stale: list[int] = []
        for source, queue in self._waiting.items():
            fresh = deque[Waiting]()
            for waiting in queue:
                version = waiting.row["policy_version"]
                assert version is None or isinstance(version, int)
                stays = self._clock.fresh(version, step)
                fresh.append(waiting) if stays else stale.append(waiting.number)
            self._waiting[source] = fresh
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
            cursors=dict(self._cursors),
            waiting=tuple(waiting.number for queue in self._waiting.values() for waiting in queue),
            rows_recorded=self._recorded,
            rows_served=self._served,
            policy_version=self._policy_version,
            reference_version=self._reference_version,
            mix=self._mix.state,
        )
        self._keeper.save(state)

    def restore(
        self,
        state: StreamState,
        waiting: Mapping[int, Waiting],
        synced: str | None,
        opened: Callable[[Path], Weights],
    ) -> None:
        """Goes on where the state was written; before `begin`.

        `waiting` has the rows of the state's numbers, `synced` is the digest of the last sync before it; `opened` opens
        weights that a state holds.
        """
        self._synced = synced
        self._cursors, self._step = dict(state.cursors), state.step
        self._mix = Mix(self._phases, state.mix)
        self._recorded, self._served = state.rows_recorded, state.rows_served
        self._policy_version, self._reference_version = state.policy_version, state.reference_version
        for number in state.waiting:
            self._waiting[waiting[number].source].append(waiting[number])
        if (sampler := self._keeper.resumed(SAMPLER, state)) is not None:
            self._sync(opened(sampler), state.policy_version)
        if (reference := self._keeper.resumed(REFERENCE, state)) is not None:
            self._reset_reference(opened(reference), state.reference_version)

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
