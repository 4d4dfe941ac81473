"""The math verifier: math-verify's judgement, within limits that do not depend on how busy the machine is.

Three outcomes. *Correct* (1.0) and *incorrect* (0.0; also when the completion holds no answer, which is the policy's
failure) are what math-verify says. *Undecided* is a failure row, never a reward of 0: the limits were hit, the gold
answer cannot be parsed, or the comparison itself failed. A worker process that something outside ended, or that is
stuck, says nothing about the answer: those failures are transient.

Answers of one reading are decided here (see `prefkit.scoring.math_answers`), the rest by worker processes; each
different pair of gold answer and completion once per call of `score`.
"""

import importlib.util
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefkit.errors import MissingExtraError, RecipeError
from prefkit.scoring import math_worker
from prefkit.scoring.config import MathVerifier, ScoreConfig
from prefkit.scoring.math_answers import decide, final_gold, gold_source
from prefkit.scoring.protocol import Score, ScoreFailure, ScoreFailureKind, ScoreRequest
from prefkit.scoring.workers import Death, DeathKind, Program, WorkerPool, WorkerStartError

WALL_SECONDS_PER_CPU_SECOND = 120.0
"""A worker that takes this much longer than its CPU time is taken for stuck. Generous: it guards, it does not judge."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of one pair of gold answer and completion: correct, incorrect, or why not."""

    correct: bool | None
    why: str
    failure: ScoreFailureKind = ScoreFailureKind.UNDECIDED

    def row(self, request: ScoreRequest) -> Score | ScoreFailure:
        """The verdict as the answer to a request."""
        key = (request.completion_id, request.aspect, request.repeat)
        if self.correct is None:
            return ScoreFailure(*key, self.failure, detail=self.why)
        return Score(*key, float(self.correct), rationale=self.why)


class MathScorer:
    """Scores 1 when the final answer of a completion equals the gold answer `inputs["answer"]`, else 0."""

    def __init__(self, config: MathVerifier) -> None:
        self._config = config
        self._pool = WorkerPool(
            _program(config), config.workers or _cores(), config.cpu_seconds * WALL_SECONDS_PER_CPU_SECOND
        )

    @classmethod
    def open(cls, config: ScoreConfig, folder: Path) -> "MathScorer":
        """The verifier `math` of a recipe. Raises MissingExtraError."""
        assert isinstance(config, MathVerifier)
        if importlib.util.find_spec("math_verify") is None:
            raise MissingExtraError(
                "verifier 'math' needs math-verify, which is not installed: pip install 'prefkit[verify]'"
            )
        return cls(config)

    @property
    def deterministic(self) -> bool:
        return True

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[Sequence[Score | ScoreFailure]]:
        """Yields verdicts in batches of `batch_size`, those that need no worker first. Any thread may call it."""
        batch: list[Score | ScoreFailure] = []
        for verdict, asked in self._verdicts(_unique(requests)):
            for request in asked:
                batch.append(verdict.row(request))
                if len(batch) == self._config.batch_size:
                    yield batch
                    batch = []
        if batch:
            yield batch

    def close(self) -> None:
        """Ends the worker processes. They also end with the scorer and with this process."""
        self._pool.close()

    def _verdicts(self, unique: "Unique") -> Iterator[tuple[Verdict, list[ScoreRequest]]]:
        open_pairs: list[tuple[str, str]] = []
        for (answer, text), asked in unique.items():
            verdict = _early_verdict(answer, text)
            if verdict is not None:
                yield verdict, asked
            elif answer is not None:
                open_pairs.append((answer, text))
        jobs = [json.dumps([gold_source(final_gold(answer)), text]).encode() for answer, text in open_pairs]
        try:
            for index, answer in self._pool.run(jobs):
                yield self._worker_verdict(answer), unique[open_pairs[index]]
        except WorkerStartError:
            raise RecipeError(
                f"verifier 'math' cannot start a worker with memory_mb {self._config.memory_mb}, "
                "expected enough to import math-verify: raise memory_mb, or repair the installation"
            ) from None

    def _worker_verdict(self, answer: bytes | Death) -> Verdict:
        if isinstance(answer, bytes):
            correct, why = json.loads(answer)
            return Verdict(correct, why)
        match answer.kind:
            case DeathKind.CPU_TIME:
                return Verdict(None, f"took more than {self._config.cpu_seconds:g} s of CPU time")
            case DeathKind.CRASHED:
                return Verdict(None, f"made the worker process end ({answer.status})")
            case DeathKind.KILLED:
                return Verdict(None, f"worker process ended by {answer.status}", ScoreFailureKind.WORKER_KILLED)
            case DeathKind.STUCK:
                return Verdict(None, answer.status, ScoreFailureKind.TIMEOUT)


Unique = dict[tuple[str | None, str], list[ScoreRequest]]


def _unique(requests: Sequence[ScoreRequest]) -> Unique:
    """The requests by gold answer and completion."""
    unique: Unique = {}
    for request in requests:
        unique.setdefault((request.inputs.get("answer"), request.completion), []).append(request)
    return unique


def _early_verdict(answer: str | None, text: str) -> Verdict | None:
    if answer is None:
        return Verdict(None, "the task has no gold answer", ScoreFailureKind.MISSING_INPUT)
    decision = decide(final_gold(answer), text)
    if decision is None:
        return None
    return Verdict(decision.correct, f"extracted {decision.extracted}, gold {decision.gold}")


def _program(config: MathVerifier) -> Program:
    # By path and with -P, so that the siblings of the worker (one is called math) cannot shadow the standard library.
    command = [sys.executable, "-P", math_worker.__file__, str(config.cpu_seconds), str(config.memory_mb)]
    return Program(command, math_worker.RETIRING.encode(), math_worker.START_FAILED)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
