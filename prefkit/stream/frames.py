"""Frames: a file of numbered payloads with checksums that is only ever appended to.

    frame  = header + payload
    header = magic | number | payload length | payload checksum | header checksum      8 bytes each, little endian

The header has a checksum of its own, so a damaged length is never taken for the end of the file. A file is *torn* when
it ends inside a frame whose header, as far as it goes, is what the next frame would begin with: an append that a crash
cut short and that nobody was told of. Readers stop before a torn frame, opening for append removes it; everything else
that is not as it was written is damage.
"""

import fcntl
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import pyarrow as pa
from xxhash import xxh3_64_digest

from prefkit.errors import DamageError, WorkspaceError
from prefkit.store.files import disk_trouble, fsync_folder

_MAGIC = b"prefkit\x01"
_NUMBERED = struct.Struct("<8sQ")
_HEADER = struct.Struct("<8sQQ8s8s")


@dataclass(frozen=True, slots=True)
class Payload:
    """The bytes of one frame, and where it ends in the file."""

    number: int
    data: pa.Buffer
    end: int


def read_payloads(path: Path) -> Iterator[Payload]:
    """The payloads in order, each checked when it is reached; ends before a torn frame.

    One frame at a time is read. The file may be opened for append, and grow, meanwhile: it is not mapped, since what
    is mapped must not lose its end. Raises DamageError, naming file and frame, at the first frame that is not what was
    written.
    """
    with path.open("rb", buffering=0) as file:
        number, end = 0, 0
        while header := file.read(_HEADER.size):
            announced = _announced(path, header, number)
            if announced is None:
                return
            length, checksum = announced
            data = file.read(length)
            if len(data) < length:
                return
            if xxh3_64_digest(data) != checksum:
                raise _damage(path, number, "has another checksum than its bytes")
            end += _HEADER.size + length
            yield Payload(number, pa.py_buffer(data), end)
            number += 1


def _announced(path: Path, header: bytes, number: int) -> tuple[int, bytes] | None:
    """Length and checksum of the payload that follows, or None when the file ends inside the header."""
    begins = _NUMBERED.pack(_MAGIC, number)
    if header[: len(begins)] != begins[: len(header)]:
        raise _damage(path, number, "does not begin like one")
    if len(header) < _HEADER.size:
        return None
    _, _, length, checksum, of_header = _HEADER.unpack(header)
    if xxh3_64_digest(header[:-8]) != of_header:
        raise _damage(path, number, "has another checksum than its header")
    return length, checksum


def _damage(path: Path, number: int, how: str) -> DamageError:
    before = f"frames 0 to {number - 1} are intact" if number else "it is the first"
    return DamageError(
        f"{path}: frame {number} {how}, expected the bytes that were recorded ({before}): put back a copy of the file"
    )


class FrameFile:
    """A file of frames that is open for append; one process at a time.

    Opening checks every frame and removes a torn one at the end. Raises DamageError for any other damage and
    WorkspaceError when another process appends to the file or the disk refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.frames = 0
        """How many there are."""
        self._file = _open(path)
        try:
            self._cut()
        except BaseException:
            self._file.close()
            raise

    def _cut(self) -> None:
        end = 0
        for payload in read_payloads(self.path):
            self.frames, end = payload.number + 1, payload.end
        if self.path.stat().st_size > end:
            os.ftruncate(self._file.fileno(), end)
            os.fsync(self._file.fileno())

    def append(self, payload: bytes) -> int:
        """Writes one frame and returns its number when it is on the disk.

        After an error the file is closed, since it may end inside a frame: open it anew to go on.
        """
        if self._file.closed:
            raise WorkspaceError(f"{self.path} is closed, after an error or for good: open it anew to go on")
        numbered = _NUMBERED.pack(_MAGIC, self.frames) + len(payload).to_bytes(8, "little") + xxh3_64_digest(payload)
        try:
            with disk_trouble(self.path):
                _write(self._file, numbered + xxh3_64_digest(numbered) + payload)
                os.fsync(self._file.fileno())
        except BaseException:
            self.close()
            raise
        self.frames += 1
        return self.frames - 1

    def close(self) -> None:
        """Lets others append."""
        self._file.close()


def _write(file: FileIO, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def is_written(path: Path) -> bool:
    """Whether a process has the file open for append just now."""
    if not path.exists():
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _open(path: Path) -> FileIO:
    with disk_trouble(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = FileIO(path, "ab")
        fsync_folder(path.parent)
        fsync_folder(path.parent.parent)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise WorkspaceError(f"{path} is written by another process: wait for that run, or stop it") from None
    return file
