"""The process that runs math-verify for `prefkit.scoring.math`: one JSON line in, one JSON line out.

It is run by its path, in an interpreter of its own, and imports nothing of prefkit. The kernel holds it to its limits:
address space (`RLIMIT_AS`) for its life and CPU time (`ITIMER_PROF`, whose signal ends the process even in the middle
of a C function) for every answer. math-verify's own time-outs are off: they measure wall time, and call a time-out
wrong. It ends when its input does, that is when its parent ends, however that happens.
"""

import json
import logging
import os
import resource
import signal
import sys
from functools import lru_cache
from typing import Protocol, cast

START_FAILED = 97
"""Exit status of a worker that could not import what it needs."""
RETIRING = " "
"""Ends the last answer of a worker, after which it takes no other."""
TRUSTED_SHARE = 0.25
"""Share of the memory limit up to which a worker is believed and goes on. An answer must find memory whatever was
judged before it; and libraries swallow memory errors, so "not equal" near the limit may mean "not known"."""
MEGABYTE = 1024 * 1024


class Parse(Protocol):
    """`math_verify.parse`: the expressions found in a text, the text of the first one last."""

    def __call__(self, pred: str, *, parsing_timeout: int | None, raise_on_error: bool) -> list[object]: ...


class Verify(Protocol):
    """`math_verify.verify`: whether any of `target` equals any of `gold`."""

    def __call__(
        self, gold: list[object], target: list[object], *, timeout_seconds: int | None, raise_on_error: bool
    ) -> bool: ...


class Judge:
    """Compares answers with gold answers."""

    def __init__(self, parse: Parse, verify: Verify) -> None:
        self._parse = parse
        self._verify = verify
        self._gold = lru_cache(maxsize=64)(self._read)  # completions of one prompt come in a row

    def __call__(self, gold_source: str, text: str) -> tuple[bool | None, str]:
        """True, False, or None for undecided, and why."""
        try:
            gold = self._gold(gold_source)
        except Exception as error:  # noqa: BLE001 - whatever it is, this answer is undecided
            return None, f"gold cannot be parsed: {_told(error)}"
        if not gold:
            return None, "gold cannot be parsed: nothing mathematical in it"
        try:
            answer = self._read(text)
        except Exception as error:  # noqa: BLE001 - whatever it is, this answer is undecided
            return None, f"answer cannot be parsed: {_told(error)}"
        if not answer:
            return False, f"no answer found, gold {_shown(gold)}"
        return self._compared(gold, answer)

    def _read(self, text: str) -> list[object]:
        return self._parse(text, parsing_timeout=None, raise_on_error=True)

    def _compared(self, gold: list[object], answer: list[object]) -> tuple[bool | None, str]:
        readings = f"extracted {_shown(answer)}, gold {_shown(gold)}"
        try:
            equal = self._verify(gold, answer, timeout_seconds=None, raise_on_error=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, this answer is undecided
            # It gives up at the first pair of readings that fails; another pair may still be equal.
            if not self._verify(gold, answer, timeout_seconds=None, raise_on_error=False):
                return None, f"{readings}: {_told(error)}"
            equal = True
        for name, side in (("gold", gold), ("answer", answer)):
            if not equal and all(isinstance(reading, str) for reading in side):
                return None, f"{readings}: {name} could not be read as an expression, and the texts differ"
        return equal, readings


def _shown(readings: list[object]) -> str:
    # Never `str` of an expression: that can take longer than the comparison.
    return next((r[:200] for r in reversed(readings) if isinstance(r, str)), "an expression")


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"


def _memory_limited(memory_mb: int) -> None:
    if sys.platform != "darwin":  # macOS does not let a process limit its address space
        resource.setrlimit(resource.RLIMIT_AS, (memory_mb * MEGABYTE, memory_mb * MEGABYTE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _memory_taken_mb() -> float:
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MEGABYTE
    # Not ru_maxrss: on Linux a new program starts with the peak of the process that started it.
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123 - read after every answer
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def _opened_judge() -> Judge:
    try:
        from math_verify import parse, verify
    except (ImportError, MemoryError, OSError):
        sys.exit(START_FAILED)
    logging.disable(logging.CRITICAL)
    return Judge(cast(Parse, parse), cast(Verify, verify))


def main(cpu_seconds: float, memory_mb: int) -> None:
    """Answers `[gold, text]` with `[verdict, why]`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt at the terminal is the parent's to handle
    replies = os.fdopen(os.dup(1), "w", encoding="ascii", buffering=1)
    os.dup2(2, 1)  # whatever a library prints is no reply
    _memory_limited(memory_mb)
    judge = _opened_judge()
    for line in sys.stdin.buffer:
        gold, text = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
        verdict, why = judge(gold, text)
        signal.setitimer(signal.ITIMER_PROF, 0)
        last = _memory_taken_mb() > memory_mb * TRUSTED_SHARE
        if last and verdict is False:
            verdict, why = None, f"{why}: took more than {TRUSTED_SHARE:.0%} of {memory_mb} MB of memory"
        replies.write(json.dumps([verdict, why]) + (RETIRING if last else "") + "\n")
        if last:
            return


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
