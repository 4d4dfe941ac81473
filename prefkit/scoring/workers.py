"""Killable worker processes: one job at a time each, and a job that ends its process ends nothing else.

A worker is a program that reads one line and writes one line, until it marks an answer as its last. It talks over a
socket, so it sees the end of its input when this process ends, however it ends, and a write to a worker that does not
read cannot wait for ever. Nothing here uses signals or the main thread: any thread may run jobs.
"""

import os
import selectors
import signal
import socket
import subprocess
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

RECEIVE_BYTES = 65_536
CHECK_SECONDS = 1.0
"""How often workers are checked for being stuck."""
CRASH_SIGNALS = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGSYS, signal.SIGXCPU}
)
"""Signals that a process gets for what it did itself."""


class DeathKind(StrEnum):
    """Why a worker ended before it answered."""

    CPU_TIME = "cpu_time"
    """The job used up its CPU time."""
    CRASHED = "crashed"
    """The job made the process end."""
    KILLED = "killed"
    """Something outside ended the process."""
    STUCK = "stuck"
    """The process neither answered nor ended for `wall_seconds` (stopped, or a machine far beyond its means)."""


@dataclass(frozen=True, slots=True)
class Death:
    """How a worker ended; `status` is what the system reported."""

    kind: DeathKind
    status: str


@dataclass(frozen=True, slots=True)
class Program:
    """What a worker runs: the command, how its last answer ends, and its exit status if it cannot start."""

    command: Sequence[str]
    retiring: bytes
    start_failed: int


class WorkerStartError(Exception):
    """The program exited with the status that says it cannot start."""


class WorkerPool:
    """Up to `size` processes of one program, started when needed and kept for the next `run`.

    Guarantees: every job of `run` is yielded exactly once, with the line that answers it or with the death of the
    worker that had it. Ends with `close`, with the last reference to it, and with this process.
    """

    def __init__(self, program: "Program", size: int, wall_seconds: float) -> None:
        self._program = program
        self._size = size
        self._wall_seconds = wall_seconds
        self._idle: list[_Worker] = []
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._closing = weakref.finalize(self, _end_all, self._idle)

    def run(self, jobs: Sequence[bytes]) -> Iterator[tuple[int, bytes | Death]]:
        """Yields (index of the job, its answer) as they come. A job is one line without its end.

        Raises WorkerStartError. Leaving early ends the workers that are busy.
        """
        busy: dict[_Worker, int] = {}
        waiting = iter(enumerate(jobs))
        try:
            with selectors.DefaultSelector() as selector:
                while self._hand_out(waiting, busy, selector):
                    ready = [key.fileobj for key, _ in selector.select(CHECK_SECONDS)]
                    for worker in list(busy):
                        answer = worker.answer() if worker.socket in ready else self._overdue(worker)
                        if answer is not None:
                            selector.unregister(worker.socket)
                            yield busy.pop(worker), self._settled(worker, answer)
        finally:
            _end_all(list(busy))

    def close(self) -> None:
        """Ends the idle workers; the next `run` starts new ones."""
        with self._lock:
            _end_all(self._idle)

    def _hand_out(
        self, waiting: Iterator[tuple[int, bytes]], busy: "dict[_Worker, int]", selector: selectors.BaseSelector
    ) -> bool:
        """Gives every free worker a job; whether anything is still under way."""
        while len(busy) < self._size and (job := next(waiting, None)) is not None:
            worker = self._free_worker()
            busy[worker] = job[0]
            selector.register(worker.socket, selectors.EVENT_READ)
            worker.ask(job[1])
        return bool(busy)

    def _free_worker(self) -> "_Worker":
        with self._lock:
            if self._owner != os.getpid():  # a forked child must not talk to its parent's workers
                self._idle.clear()
                self._owner = os.getpid()
            while self._idle:
                worker = self._idle.pop()
                if worker.alive:
                    return worker
                worker.end()
        return _Worker(self._program.command, self._wall_seconds)

    def _settled(self, worker: "_Worker", answer: bytes | Death) -> bytes | Death:
        if isinstance(answer, bytes):
            if answer.endswith(self._program.retiring) or not self._kept(worker):
                worker.end()
            return answer
        if answer.status == str(self._program.start_failed):
            raise WorkerStartError(f"exit status {answer.status}")
        return answer

    def _kept(self, worker: "_Worker") -> bool:
        with self._lock:
            keep = len(self._idle) < self._size
            if keep:
                self._idle.append(worker)
            return keep

    def _overdue(self, worker: "_Worker") -> Death | None:
        if time.monotonic() - worker.asked < self._wall_seconds:
            return None
        worker.end()
        return Death(DeathKind.STUCK, f"no answer in {self._wall_seconds:g} s")


class _Worker:
    """One process and the socket to it."""

    def __init__(self, command: Sequence[str], wall_seconds: float) -> None:
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(wall_seconds)
        with theirs:
            self._process = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
                env=_environment(os.environ),
            )
        self._received = bytearray()
        self.asked = 0.0

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, job: bytes) -> None:
        self.asked = time.monotonic()
        with suppress(OSError):  # it has ended or reads nothing: `answer` tells which, or it is overdue
            self.socket.sendall(job + b"\n")

    def answer(self) -> bytes | Death | None:
        """The answer if it is complete, the death if there will be none, None if it is still coming."""
        try:
            received = self.socket.recv(RECEIVE_BYTES)
        except OSError:
            received = b""
        if not received:
            return self._death()
        self._received += received
        if not received.endswith(b"\n"):
            return None
        line = bytes(self._received[:-1])
        self._received.clear()
        return line

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self.socket.close()

    def _death(self) -> Death:
        status = self._process.wait()
        self.socket.close()
        if status >= 0:
            return Death(DeathKind.CRASHED, str(status))
        name = signal.Signals(-status).name
        if -status == signal.SIGPROF:
            return Death(DeathKind.CPU_TIME, name)
        return Death(DeathKind.CRASHED if -status in CRASH_SIGNALS else DeathKind.KILLED, name)


def _environment(inherited: Mapping[str, str]) -> dict[str, str]:
    # Sets of strings must come in the same order in every worker, or verdicts could differ between them.
    return {**inherited, "PYTHONHASHSEED": "0"}


def _end_all(workers: "list[_Worker]") -> None:
    while workers:
        workers.pop().end()
