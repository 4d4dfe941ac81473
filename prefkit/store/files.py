"""Durable files: what is acknowledged is on the disk, and a half-written thing is never visible under its name.

Every write that matters goes through here: bytes are fsynced before a rename makes them visible, and the folder is
fsynced after it. Locks are `flock`s on files that stay, so a dead process holds nothing.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from prefkit.errors import WorkspaceError

_DISK_TROUBLE = {
    errno.ENOSPC: "the disk is full: free some space and run the command again, nothing acknowledged is lost",
    errno.EDQUOT: "the disk quota is used up: free some space and run the command again, nothing acknowledged is lost",
    errno.EROFS: "the file system is read-only: choose another place with --workspace",
    errno.EACCES: "permission denied: make the folder writable or choose another place with --workspace",
    errno.EPERM: "operation not permitted: make the folder writable or choose another place with --workspace",
}


@contextmanager
def disk_trouble(path: Path) -> Generator[None]:
    """Turns a full, read-only or forbidden disk into a one-line WorkspaceError about `path`."""
    try:
        yield
    except OSError as error:
        number = error.errno or _errno_of_text(str(error))
        if number in _DISK_TROUBLE:
            raise WorkspaceError(f"cannot write {path}: {_DISK_TROUBLE[number]}") from error
        raise


def _errno_of_text(text: str) -> int | None:
    # Lance wraps the operating system's error into a message and drops the number.
    return next((n for n in _DISK_TROUBLE if os.strerror(n) in text or f"os error {n})" in text), None)


def fsync_file(path: Path) -> None:
    """Returns when the file's bytes are on the disk."""
    _fsync(path, os.O_RDONLY)


def fsync_folder(path: Path) -> None:
    """Returns when the folder's entries (names, renames, removals) are on the disk."""
    _fsync(path, os.O_RDONLY | os.O_DIRECTORY)


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, data: bytes) -> None:
    """Replaces the file by `data`: a reader, or a restart after a crash, sees the old bytes or the new, never a mix."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with disk_trouble(path):
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        fsync_folder(path.parent)


def append_durably(path: Path, line: bytes) -> None:
    """Appends one record on lines of its own, so that a record torn by a crash cannot spoil its neighbours."""
    with disk_trouble(path), path.open("ab") as file:
        file.write(b"\n" + line + b"\n")
        file.flush()
        os.fsync(file.fileno())


def publish_folder(draft: Path, target: Path) -> bool:
    """Makes a finished folder visible as `target` in one step; False when `target` is taken."""
    with disk_trouble(target):
        for file in sorted(draft.iterdir()):
            fsync_file(file)
        fsync_folder(draft)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.rename(target)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise
        fsync_folder(target.parent)
    return True


def remove_tree(path: Path) -> int:
    """Removes a folder or file and returns how many bytes it held."""
    held = tree_bytes(path)
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return held


def tree_bytes(path: Path) -> int:
    """Bytes in the files of a folder, or of one file."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(f.stat().st_size for f in files if f.is_file())


@contextmanager
def lock(path: Path, *, shared: bool, busy: str) -> Generator[None]:
    """Holds a lock for as long as the block runs; WorkspaceError with the text `busy` when another process has it.

    `busy` may contain `{holder}`, which becomes the process id of an exclusive holder.
    """
    with disk_trouble(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    with file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise WorkspaceError(busy.format(holder=file.read().strip() or "another process")) from None
        if not shared:
            file.truncate(0)
            file.write(f"process {os.getpid()}")
            file.flush()
        yield


@contextmanager
def turn(path: Path) -> Generator[None]:
    """Waits until no other process is inside a block with the same path, and keeps others out while the block runs."""
    with disk_trouble(path):
        file = path.open("a")
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
