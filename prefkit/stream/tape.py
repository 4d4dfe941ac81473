"""The tape: what was recorded after a checkpoint is played again while it comes out the same, everything else recorded.

A resumed run goes over the events that its first attempt recorded after the checkpoint. Micro-batches are taken from
the recording, not computed; syncs and resets compare the weights' digests. At the first event that differs (a machine
that rounds otherwise) a new attempt begins, and what was recorded beyond it is superseded.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from prefkit.stream.events import Base, Drop, End, NewRows, Reset, Serve, Start, Sync
from prefkit.stream.recording import Frame, Recorder

Told = Serve | Sync | Drop | Reset | End


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tape stands."""

    run_id: str
    """Whose recording it is."""
    attempt: int
    """The attempt whose recording is continued."""
    position: tuple[int, int]
    """Attempt and number of frames up to the last event that was played or recorded."""


class Tape:
    """A recording that is played where it was recorded before, and continued where it ends.

    `position` is where the played part begins: attempt, and frames of its file that came before. `recorded` are the
    frames of the chain from there on.
    """

    def __init__(
        self,
        folder: Path,
        recorder: Recorder,
        start: Start,
        position: tuple[int, int],
        recorded: Iterable[Frame] = (),
    ) -> None:
        self._folder = folder
        self._recorder = recorder
        self._start = start
        self._position = position
        self._recorded = (frame for frame in recorded if not isinstance(frame.event, Start))
        self._ahead: Frame | None = None
        self._look_ahead()

    @property
    def place(self) -> Place:
        """Where it stands."""
        return Place(self._start.run_id, self._start.attempt, self._position)

    def played(self, source: str, cursor: int, policy_version: int) -> NewRows | None:
        """The source's micro-batch from this prompt on as recorded; None when it has to be drawn."""
        event = self._ahead.event if self._ahead else None
        if isinstance(event, NewRows):
            batch = event.batch
            if (event.source, batch.cursor, batch.policy_version) == (source, cursor, policy_version):
                self._advance()
                return event
        self._leave()
        return None

    def record(self, drawn: NewRows) -> Place:
        """Records a micro-batch that `played` did not have."""
        return self._record(drawn)

    def tell(self, event: Told) -> Place:
        """An event of the stream: the same as recorded, or recorded now."""
        if self._ahead and self._ahead.event == event:
            return self._advance()
        self._leave()
        return self._record(event)

    def close(self) -> None:
        """Lets others append to the recording."""
        self._recorder.close()

    def _record(self, event: NewRows | Told) -> Place:
        self._recorder.append(event)
        self._position = (self._start.attempt, self._recorder.frames)
        return self.place

    def _look_ahead(self) -> None:
        self._ahead = next(self._recorded, None)

    def _advance(self) -> Place:
        assert self._ahead is not None
        self._position = (self._ahead.attempt, self._ahead.number + 1)
        self._look_ahead()
        return self.place

    def _leave(self) -> None:
        """What comes is not what was recorded: the rest of the recording, if there is any, is superseded."""
        if self._ahead is not None:
            self._recorder.close()
            self._start = Start(self._start.run_id, self._start.attempt + 1, Base(*self._position))
            self._recorder = Recorder.begin(self._folder, self._start)
            self._recorded, self._ahead = iter(()), None
