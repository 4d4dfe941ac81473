"""The recording of a run: everything it trained on and every decision of its clock, in order, for good.

One file of frames per attempt and rank, `recording/<attempt>-<rank>.arrows`, one event a frame. What is appended is on
the disk before it is served.

A run that goes on otherwise than it was recorded (another machine rounds differently) begins another attempt, which
says how many frames of an earlier one stand before its own. The frames that stand, attempt by attempt, are the
*chain*, the one history of the run; frames outside of it are *superseded*.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType

from prefkit.errors import DamageError, NotFoundError, WorkspaceError
from prefkit.stream.events import FORMAT, Event, NewRows, Start, decode, encode
from prefkit.stream.frames import FrameFile, is_written, read_payloads


@dataclass(frozen=True, slots=True)
class Frame:
    """An event and where it stands."""

    attempt: int
    number: int
    """Its place in the file of its attempt; 0 is the start."""
    event: Event


def recording_path(folder: Path, attempt: int, rank: int = 0) -> Path:
    """Where the recording of an attempt and rank lies in a run's `recording` folder."""
    return folder / f"{attempt}-{rank}.arrows"


class Recorder:
    """An attempt's recording, open for append. Make one with `begin` or `resume`."""

    def __init__(self, file: FrameFile) -> None:
        self._file = file

    @classmethod
    def begin(cls, folder: Path, start: Start, rank: int = 0) -> "Recorder":
        """Begins an attempt. Raises WorkspaceError when that attempt was begun before, and as FrameFile does."""
        file = FrameFile(recording_path(folder, start.attempt, rank))
        if file.frames:
            file.close()
            raise WorkspaceError(
                f"{file.path} holds {file.frames} frames, expected none: resume this attempt or begin a later one"
            )
        recorder = cls(file)
        recorder.append(start)
        return recorder

    @classmethod
    def resume(cls, folder: Path, attempt: int, rank: int = 0) -> "Recorder":
        """Goes on after the last whole frame of an attempt. Raises NotFoundError without one, and as FrameFile does."""
        path = recording_path(folder, attempt, rank)
        if attempt not in _attempts(folder, rank):
            raise NotFoundError(f"{path} holds no recording, expected that of attempt {attempt}: begin it")
        return cls(FrameFile(path))

    @property
    def frames(self) -> int:
        """How many frames the attempt's file holds, the start among them."""
        return self._file.frames

    def append(self, event: Event) -> int:
        """Records an event and returns its frame number once it is on the disk.

        After an error the recording is closed: resume it to go on.
        """
        return self._file.append(encode(event))

    def close(self) -> None:
        """Lets others append."""
        self._file.close()

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def chain(folder: Path, rank: int = 0) -> Iterator[Frame]:
    """The frames that stand, attempt by attempt from the first; only the one at hand is read.

    Raises DamageError at the first frame that is not what was recorded, or that is missing where a later attempt or
    the numbers of the rows say there was one; NotFoundError when nothing was recorded.
    """
    rows = 0
    for attempt, stand in _standing(folder, rank).items():
        path, frames = recording_path(folder, attempt, rank), 0
        for frame in islice(_read(path, attempt), stand):
            if isinstance(frame.event, NewRows):
                if frame.event.first_row != rows:
                    raise DamageError(
                        f"{path}: frame {frame.number} begins with row {frame.event.first_row}, expected {rows}: "
                        "put back a copy of the recording"
                    )
                rows += frame.event.batch.rows.num_rows
            yield frame
            frames += 1
        if stand is not None and frames < stand:
            raise DamageError(
                f"{path}: frame {frames} is missing, expected {stand} frames, which a later attempt continues: "
                "put back a copy of the recording"
            )


def superseded(folder: Path, rank: int = 0) -> Iterator[Frame]:
    """The frames outside of the chain, attempt by attempt. Raises as `chain`."""
    standing = _standing(folder, rank)
    for attempt in _attempts(folder, rank):
        stand = standing.get(attempt, 0)
        if stand is not None:
            yield from islice(_read(recording_path(folder, attempt, rank), attempt), stand, None)


def stands(folder: Path, attempt: int, frames: int, rank: int = 0) -> bool:
    """Whether the first `frames` frames of an attempt are all there and in the chain. Raises as `chain`."""
    stand = _standing(folder, rank).get(attempt, 0)
    if stand is not None and frames > stand:
        return False
    return sum(1 for _ in islice(read_payloads(recording_path(folder, attempt, rank)), frames)) == frames


def is_recorded_now(folder: Path) -> bool:
    """Whether a process records into the folder: the run goes on."""
    newest = newest_attempt(folder)
    return newest is not None and is_written(recording_path(folder, newest))


def newest_attempt(folder: Path, rank: int = 0) -> int | None:
    """The last attempt that was begun, or None when nothing was recorded."""
    return max(_attempts(folder, rank), default=None)


def _attempts(folder: Path, rank: int) -> list[int]:
    """The attempts that have a start: a crash may leave a file without one."""
    names = [path.stem.removesuffix(f"-{rank}") for path in folder.glob(f"*-{rank}.arrows")]
    attempts = sorted(int(name) for name in names if name.isdecimal())
    return [n for n in attempts if next(read_payloads(recording_path(folder, n, rank)), None)]


def _standing(folder: Path, rank: int) -> dict[int, int | None]:
    """By attempt of the chain, oldest first, how many of its frames stand (None: all)."""
    newest = newest_attempt(folder, rank)
    if newest is None:
        raise NotFoundError(f"{folder} holds no recording of rank {rank}, expected one: was the run ever started?")
    found: dict[int, int | None] = {newest: None}
    start = last = _start(recording_path(folder, newest, rank), newest)
    while base := start.base:
        path = recording_path(folder, base.attempt, rank)
        start = _start(path, base.attempt)
        if start.run_id != last.run_id or base.attempt in found:
            raise DamageError(
                f"{path} is of run {start.run_id}, expected an earlier attempt of {last.run_id}: put back its recording"
            )
        found[base.attempt] = base.frames
    return dict(reversed(found.items()))


def _start(path: Path, attempt: int) -> Start:
    frame = next(_read(path, attempt), None) if path.exists() else None
    if frame is None or not isinstance(frame.event, Start) or frame.event.attempt != attempt:
        raise DamageError(f"{path} does not hold attempt {attempt} of a run, expected it there: put back a copy")
    return frame.event


def _read(path: Path, attempt: int) -> Iterator[Frame]:
    for payload in read_payloads(path):
        try:
            event = decode(payload.data)
        except (KeyError, TypeError) as error:
            raise _newer(path, f"frame {payload.number}") from error
        if isinstance(event, Start) and event.format != FORMAT:
            raise _newer(path, f"format {event.format}")
        yield Frame(attempt, payload.number, event)


def _newer(path: Path, what: str) -> WorkspaceError:
    return WorkspaceError(f"{path} has {what} of another prefkit, expected format {FORMAT}: read it with that prefkit")
