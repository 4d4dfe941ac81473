"""From a run's recording and states to a stream: at its start, or where a checkpoint ends."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import dropwhile, takewhile
from pathlib import Path

from prefkit.errors import DamageError
from prefkit.stream.clock import Clock
from prefkit.stream.events import NewRows, Start, Sync
from prefkit.stream.kept import SavesAt
from prefkit.stream.protocol import Weights
from prefkit.stream.ranked import RankedKeeper, RankedSource, RankedTape
from prefkit.stream.ranks import Ranks, Share, from_first
from prefkit.stream.recording import Frame, Recorder, chain, newest_attempt, stands
from prefkit.stream.sources import Sources, Waiting
from prefkit.stream.state import StreamState, read_state
from prefkit.stream.stream import PreferenceStream
from prefkit.stream.tape import Tape

RECORDING, STATES = "recording", "stream"


@dataclass(frozen=True, slots=True)
class RunFiles:
    """Where a run keeps its recording and its states."""

    folder: Path
    run_id: str

    @property
    def recording(self) -> Path:
        """The folder of its recording."""
        return self.folder / RECORDING

    @property
    def states(self) -> Path:
        """The folder of its states."""
        return self.folder / STATES


@dataclass(frozen=True, slots=True)
class Setting:
    """What a stream works with, beside its run."""

    sources: Sources
    """The same on every rank."""
    clock: Clock
    saves_at: SavesAt
    share: Share = field(default_factory=Share)

    @property
    def ranks(self) -> Ranks:
        """The processes that train together."""
        return self.share.ranks


def begun_stream(run: RunFiles, setting: Setting) -> PreferenceStream:
    """A stream from the first row on. What the run recorded before, should it have been killed, is played again."""
    tape = RankedTape(setting.ranks, partial(_begun_tape, run))
    return _stream(run, setting, tape)


def resumed_stream(run: RunFiles, step: int, setting: Setting, opened: Callable[[Path], Weights]) -> PreferenceStream:
    """A stream that goes on after `step`, of which there is a state. `opened` opens weights that a state holds.

    Raises DamageError when state and recording do not belong together.
    """
    state = from_first(setting.ranks, partial(_state, run, step))
    waiting, synced = from_first(setting.ranks, partial(_before, run, state))
    stream = _stream(run, setting, RankedTape(setting.ranks, partial(_resumed_tape, run, state)))
    stream.restore(state, waiting, synced, opened)
    return stream


def _stream(run: RunFiles, setting: Setting, tape: RankedTape) -> PreferenceStream:
    ranks = setting.ranks
    sources = setting.sources.through(lambda source: RankedSource(source, ranks))
    keeper = RankedKeeper(ranks, run.states, setting.saves_at)
    return PreferenceStream(sources, setting.clock, tape, keeper, setting.share)


def _begun_tape(run: RunFiles) -> Tape:
    attempt = newest_attempt(run.recording) if run.recording.exists() else None
    if attempt is None:
        start = Start(run.run_id, 0)
        return Tape(run.recording, Recorder.begin(run.recording, start), start, (0, 1))
    recorder, start = Recorder.resume(run.recording, attempt), Start(run.run_id, attempt)
    return Tape(run.recording, recorder, start, (0, 1), chain(run.recording))


def _state(run: RunFiles, step: int) -> StreamState:
    """The state of a step, which stands on the recording."""
    state = read_state(run.states, step, run.run_id)
    if newest_attempt(run.recording) is None or not stands(run.recording, state.attempt, state.frames):
        raise DamageError(
            f"{run.recording} does not reach frame {state.frames} of attempt {state.attempt}, expected it since step "
            f"{step} was saved after it: put back a copy of the recording, or resume from an earlier step"
        )
    return state


def _before(run: RunFiles, state: StreamState) -> tuple[dict[int, Waiting], str | None]:
    """Of what was recorded before a state: the rows that waited, by number, and the digest of the last sync."""
    wanted = set(state.waiting)
    waiting: dict[int, Waiting] = {}
    synced = None
    for frame in takewhile(partial(_is_before, state), chain(run.recording)):
        if isinstance(frame.event, NewRows):
            rows, first = frame.event.batch.rows, frame.event.first_row
            for number in wanted & set(range(first, first + rows.num_rows)):
                known = rows.slice(number - first, 1)
                waiting[number] = Waiting(number, frame.event.source, known.to_pylist()[0], known)
        elif isinstance(frame.event, Sync):
            synced = frame.event.digest
    return waiting, synced


def _resumed_tape(run: RunFiles, state: StreamState) -> Tape:
    attempt = newest_attempt(run.recording)
    assert attempt is not None, "the state stands on a recording"
    recorder, start = Recorder.resume(run.recording, attempt), Start(run.run_id, attempt)
    after = dropwhile(partial(_is_before, state), chain(run.recording))
    return Tape(run.recording, recorder, start, (state.attempt, state.frames), after)


def _is_before(state: StreamState, frame: Frame) -> bool:
    return (frame.attempt, frame.number) < (state.attempt, state.frames)


def can_resume(run: RunFiles, step: int) -> bool:
    """Whether a state of this step and all that was recorded before it are there."""
    try:
        state = read_state(run.states, step, run.run_id)
        return stands(run.recording, state.attempt, state.frames)
    except (DamageError, LookupError):
        return False
