import os
import signal
import sys
import threading
from collections.abc import Iterator

import pytest

from prefkit.scoring.workers import Death, DeathKind, Program, WorkerPool, WorkerStartError

PROGRAM = """
import os, signal, sys, time
if len(sys.argv) > 1:
    sys.exit(int(sys.argv[1]))
for line in sys.stdin:
    word, _, rest = line.strip().partition(" ")
    if word == "kill":
        os.kill(os.getpid(), int(rest))
    if word == "spin":
        signal.setitimer(signal.ITIMER_PROF, float(rest))
        while True:
            pass
    if word == "sleep":
        time.sleep(float(rest))
    answer = str(os.getpid()) if word == "pid" else str(len(rest)) if word == "length" else rest
    print(answer + (" last" if word == "retire" else ""), flush=True)
    if word == "retire":
        break
"""


def toy_pool(size: int = 2, wall_seconds: float = 60.0, exit_status: str = "") -> WorkerPool:
    command = [sys.executable, "-I", "-S", "-c", PROGRAM, *([exit_status] if exit_status else [])]
    return WorkerPool(Program(command, retiring=b" last", start_failed=97), size, wall_seconds)


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    pool = toy_pool()
    yield pool
    pool.close()


def test_jobs_are_each_answered_once(pool: WorkerPool) -> None:
    answers = dict(pool.run([f"echo {n}".encode() for n in range(50)]))
    assert answers == {n: str(n).encode() for n in range(50)}


def test_no_jobs_give_no_answers(pool: WorkerPool) -> None:
    assert list(pool.run([])) == []


@pytest.mark.parametrize(
    ("job", "death"),
    [
        (b"kill 9", Death(DeathKind.KILLED, "SIGKILL")),
        (b"kill 15", Death(DeathKind.KILLED, "SIGTERM")),
        (b"kill 11", Death(DeathKind.CRASHED, "SIGSEGV")),
        (b"spin 0.2", Death(DeathKind.CPU_TIME, "SIGPROF")),
        (b"sleep not-a-number", Death(DeathKind.CRASHED, "1")),
    ],
)
def test_worker_that_ends_takes_only_its_own_job_along(pool: WorkerPool, job: bytes, death: Death) -> None:
    answers = dict(pool.run([b"echo a", job, b"echo b", b"echo c"]))
    assert answers == {0: b"a", 1: death, 2: b"b", 3: b"c"}


def test_worker_that_does_not_answer_in_time_is_stuck() -> None:
    answers = dict(toy_pool(size=1, wall_seconds=0.3).run([b"sleep 600", b"echo after"]))
    first = answers[0]
    assert isinstance(first, Death)
    assert first.kind is DeathKind.STUCK
    assert answers[1] == b"after"


def test_stopped_worker_with_a_job_longer_than_its_pipe_is_stuck() -> None:
    pool = toy_pool(size=1, wall_seconds=0.3)
    ((_, pid),) = pool.run([b"pid"])
    assert isinstance(pid, bytes)
    os.kill(int(pid), signal.SIGSTOP)
    ((_, death),) = pool.run([b"length " + b"x" * 5_000_000])
    assert isinstance(death, Death)
    assert death.kind is DeathKind.STUCK


def test_worker_killed_between_runs_is_replaced(pool: WorkerPool) -> None:
    ((_, pid),) = pool.run([b"pid"])
    assert isinstance(pid, bytes)
    os.kill(int(pid), signal.SIGKILL)
    os.waitid(os.P_PID, int(pid), os.WEXITED | os.WNOWAIT)
    assert dict(pool.run([b"echo a", b"echo b"])) == {0: b"a", 1: b"b"}


def test_retiring_worker_gets_no_further_job(pool: WorkerPool) -> None:
    answers = dict(pool.run([b"retire a", b"retire b", b"echo c", b"retire d", b"echo e"]))
    assert answers == {0: b"a last", 1: b"b last", 2: b"c", 3: b"d last", 4: b"e"}


def test_workers_are_kept_for_the_next_run() -> None:
    pool = toy_pool(size=1)
    assert list(pool.run([b"pid"])) == list(pool.run([b"pid"]))


def test_job_and_answer_of_a_megabyte_pass(pool: WorkerPool) -> None:
    text = b"x" * 1_000_000
    assert dict(pool.run([b"length " + text, b"echo " + text])) == {0: b"1000000", 1: text}


def test_program_that_cannot_start_raises() -> None:
    with pytest.raises(WorkerStartError):
        list(toy_pool(exit_status="97").run([b"echo a"]))


def test_run_left_early_leaves_a_usable_pool(pool: WorkerPool) -> None:
    answers = pool.run([b"echo a", b"sleep 600", b"echo b"])
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert dict(pool.run([b"echo c"])) == {0: b"c"}


def test_runs_in_several_threads_do_not_mix_answers(pool: WorkerPool) -> None:
    found: dict[str, list[bytes | Death]] = {}

    def run(name: str) -> None:
        answers = dict(pool.run([f"echo {name}{n}".encode() for n in range(40)]))
        found[name] = [answers[n] for n in range(40)]

    threads = [threading.Thread(target=run, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {name: [f"{name}{n}".encode() for n in range(40)] for name in "abc"}
