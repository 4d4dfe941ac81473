import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prefkit.scoring.config import MathVerifier
from prefkit.scoring.math import MathScorer
from prefkit.scoring.protocol import Score, ScoreFailure, ScoreFailureKind
from tests.scoring.builders import outcome, outcomes, request, requests, rows

TOWER = r"\boxed{9^{9^{9^{9}}}}"
SEVERAL = r"At first \boxed{3} seems right. Then one sees that two more go in and one comes out: in the end \boxed{4}"
HOSTILE = [
    TOWER,
    r"\boxed{1000000!}",
    r"\boxed{" + "{" * 5000 + "1" + "}" * 5000 + "}",
    r"\boxed{" + "9" * 100_000 + "}",
    r"\boxed{\sum_{i=1}^{10^9} \sin(i)}",
    r"\boxed{" + r"\frac{1}{" * 2000 + "1" + "}" * 2000 + "}",
    r"\boxed{(x+y+z+w)^{200}}",
    "$" * 5000,
    "\x00\ud800",
]


def opened(cpu_seconds: float = 5.0, workers: int | None = 2, batch_size: int = 256) -> MathScorer:
    config = MathVerifier(
        kind="verifier", name="math", cpu_seconds=cpu_seconds, workers=workers, memory_mb=1024, batch_size=batch_size
    )
    return MathScorer(config)


@pytest.fixture(scope="module")
def scorer() -> Iterator[MathScorer]:
    scorer = opened()
    yield scorer
    scorer.close()


@pytest.mark.parametrize(
    ("completion", "gold", "expected"),
    [
        ("The answer is 42.", "42", 1.0),
        ("The answer is 41.", "42", 0.0),
        (r"so \boxed{\frac{1}{2}}", "0.5", 1.0),
        (r"so $\boxed{\frac{2}{4}}$", r"\frac{1}{2}", 1.0),
        ("it is 1/2", r"\frac12", 1.0),
        ("The answer is 3/4.", "0.7", 0.0),
        ("We get 1,234.50 in all: 1,234.50", "1234.5", 1.0),
        ("She pays $1,234", "1,234", 1.0),
        (r"The length is \boxed{10\text{ cm}}.", "10", 1.0),
        (r"\boxed{-5}", "-5", 1.0),
        (r"\boxed{5}", "-5", 0.0),
        ("The answer is 50%.", r"50\%", 1.0),
        (r"The share is \boxed{50\%}", "0.5", 1.0),
        (r"\boxed{x=5}", "5", 1.0),
        (r"\boxed{(x+1)^2}", "x^2+2x+1", 1.0),
        (r"\boxed{2\sqrt{2}}", r"\sqrt{8}", 1.0),
        (r"\boxed{\{3, 1, 2\}}", r"\{1,2,3\}", 1.0),
        (SEVERAL, "4", 1.0),
        (SEVERAL, "3", 0.0),
        ("The answer is 24", "48/2 = <<48/2=24>>24 clips\n#### 24", 1.0),
        ("The answer is 18.", r"The answer is $18$", 1.0),
        (r"\boxed{\text{Tuesday}}", r"\text{Tuesday}", 1.0),
        (r"\boxed{\text{Monday}}", r"\text{Tuesday}", 0.0),
        ("I do not know.", "42", 0.0),
        ("", "42", 0.0),
        ("The answer is 42.", "", "undecided"),
        ("The answer is 42.", None, "missing_input"),
    ],
)
def test_math_verdict_is_mathematical_equality(
    scorer: MathScorer, completion: str, gold: str | None, expected: float | str
) -> None:
    assert outcome(scorer, completion, gold) == expected


def test_math_answer_that_cannot_be_read_is_undecided_not_wrong(scorer: MathScorer) -> None:
    deep = r"\boxed{" + "+".join(["x"] * 5000) + "}"
    assert outcome(scorer, deep, "5000x") == "undecided"


def test_math_rationale_names_both_readings(scorer: MathScorer) -> None:
    scored = rows(scorer.score(requests(("answer is 7", "8"), (r"it is \frac{1}{4}", "0.25"))))
    assert [row.rationale for row in scored if isinstance(row, Score)] == [
        "extracted 7, gold 8",
        r"extracted \frac{1}{4}, gold 0.25",
    ]


def test_math_verdict_does_not_depend_on_the_memory_of_the_process_that_asks() -> None:
    held = bytearray(400_000_000)
    held[::4096] = b"x" * len(held[::4096])  # resident, and more than what a worker is trusted up to
    scorer = opened()
    assert outcomes(scorer, requests((r"it is \frac{1}{3}", r"\frac{3}{7}"))) == [0.0]
    scorer.close()
    assert held[0]


def test_math_without_an_answer_says_so(scorer: MathScorer) -> None:
    (row,) = rows(scorer.score([request("I do not know.", r"\pi")]))
    assert isinstance(row, Score)
    assert row.rationale == r"no answer found, gold \pi"


def test_math_no_requests_give_no_rows(scorer: MathScorer) -> None:
    assert list(scorer.score([])) == []


def test_math_answers_every_request_once_in_batches_of_the_given_size() -> None:
    scorer = opened(batch_size=3)
    # The same pair comes back under several ids, decided here and by a worker.
    asked = requests(*[("The answer is 7.", "7"), (r"it is \frac{14}{2}", "7"), ("none", "7")] * 4)
    batches = list(scorer.score(asked))
    scorer.close()
    assert [len(batch) for batch in batches] == [3, 3, 3, 3]
    assert [row.completion_id for row in rows(batches)] == [r.completion_id for r in asked]
    assert [row.score for row in rows(batches) if isinstance(row, Score)] == [1.0, 1.0, 0.0] * 4


def test_math_hostile_answers_are_never_right_and_leave_siblings_alone_from_any_thread() -> None:
    scorer = opened(cpu_seconds=0.4)
    good = [(r"it is \frac{6}{14}", r"\frac{3}{7}"), (r"it is \frac{1}{3}", r"\frac{3}{7}")]
    asked = requests(*good, *[(text, r"\frac{3}{7}") for text in HOSTILE], *good)
    found: list[float | str] = []
    thread = threading.Thread(target=lambda: found.extend(outcomes(scorer, asked)))
    thread.start()
    thread.join()
    scorer.close()
    assert found[:2] == found[-2:] == [1.0, 0.0]
    assert found[2] == "undecided"
    assert set(found[2:-2]) <= {0.0, "undecided"}


def test_math_over_budget_failure_is_final_and_names_the_limit() -> None:
    scorer = opened(cpu_seconds=0.4)
    (row,) = rows(scorer.score([request(TOWER, "1")]))
    assert isinstance(row, ScoreFailure)
    assert (row.kind, row.detail) == (ScoreFailureKind.UNDECIDED, "took more than 0.4 s of CPU time")
    assert not row.kind.transient


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_math_worker_killed_from_outside_is_transient_and_siblings_survive() -> None:
    others = workers_of(os.getpid())
    scorer = opened(cpu_seconds=60.0, workers=1)
    found: list[float | str] = []
    asked = requests((TOWER, "1"), (r"it is \frac{1}{2}", "0.5"), (r"it is \frac{1}{3}", "0.5"))
    thread = threading.Thread(target=lambda: found.extend(outcomes(scorer, asked)))
    thread.start()
    (worker,) = set(wait_for_workers(os.getpid(), len(others) + 1)) - set(others)
    os.kill(worker, signal.SIGKILL)
    thread.join()
    scorer.close()
    assert found == ["worker_killed", 1.0, 0.0]
    assert ScoreFailureKind.WORKER_KILLED.transient


def test_math_labels_are_the_same_on_a_busy_machine() -> None:
    scorer = opened(workers=1)
    asked = requests(
        (r"\boxed{\sum_{i=1}^{1000000000} i^2}", "5"),  # takes a while
        (r"\boxed{\frac{\sqrt{50}}{5}}", r"\sqrt{2}"),
        (r"\boxed{\sin^2(x) + \cos^2(x)}", "1"),
        (r"\boxed{(x-1)(x+1)}", "x^2+1"),
    )
    quiet = outcomes(scorer, asked)
    scorer.close()
    neighbours = [subprocess.Popen([sys.executable, "-I", "-S", "-c", "while True: pass"]) for _ in range(2)]
    try:
        assert outcomes(scorer, asked) == quiet == [0.0, 1.0, 1.0, 0.0]
    finally:
        scorer.close()
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()


PARENT = """
from tests.scoring.test_math import TOWER, opened
from tests.scoring.builders import requests
scorer = opened(cpu_seconds=1.0)
list(scorer.score(requests((r"it is \\frac{1}{2}", "1"), (r"it is \\frac{1}{3}", "1"))))
list(scorer.score(requests((TOWER, "1"))))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_math_workers_end_when_their_parent_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], cwd=Path(__file__).parents[2])
    workers = wait_for_workers(parent.pid, 2)
    assert all(running(worker) for worker in workers)
    parent.kill()
    parent.wait()
    wait_until(lambda: not any(running(worker) for worker in workers))
    assert not any(running(worker) for worker in workers)


def wait_for_workers(parent: int, count: int) -> list[int]:
    wait_until(lambda: len(workers_of(parent)) >= count)
    return workers_of(parent)


def workers_of(parent: int) -> list[int]:
    children = [
        int(pid) for task in Path(f"/proc/{parent}/task").glob("*/children") for pid in task.read_text().split()
    ]
    return [pid for pid in children if b"math_worker" in (Path(f"/proc/{pid}") / "cmdline").read_bytes()]


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited a minute in vain"
        time.sleep(0.05)
