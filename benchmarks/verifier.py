"""The math verifier against plain math-verify: 20,000 answers, in one run.

    python benchmarks/verifier.py --json benchmarks/results/verifier.json

Answers are made up from a seed: solutions that end in a number, a fraction, an expression or interval, right
or wrong in equal shares, one in ten repeated. `plain` calls `parse` and `verify` on each in one process, one after the
other, with math-verify's own time limits; `ours` is the scorer of a recipe with one worker a core. Their agreement
is part of the result.
"""

import argparse
import json
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefkit.scoring.config import MathVerifier
from prefkit.scoring.math import MathScorer
from prefkit.scoring.protocol import Score, ScoreRequest

ANSWERS = 20_000


@dataclass(frozen=True, slots=True)
class Answer:
    """A completion and what it should have said."""

    gold: str
    completion: str


def made_up(count: int, seed: int) -> list[Answer]:
    """Answers of four kinds in turn; every tenth repeats an earlier one."""
    draw = random.Random(seed)
    kinds: list[Callable[[int], str]] = [
        str,
        lambda n: rf"\frac{{{n}}}{{{n + 7}}}",
        lambda n: rf"{n}\sqrt{{{n % 11 + 2}}}+{n % 5}",
        lambda n: rf"[{n % 90}, {n % 90 + 3})",
    ]
    answers: list[Answer] = []
    for index in range(count):
        if index % 10 == 9:
            answers.append(answers[draw.randrange(len(answers))])
            continue
        number, right = draw.randrange(2, 5_000), draw.random() < 0.5
        kind = kinds[index % len(kinds)]
        said = kind(number if right else number + draw.randrange(1, 9))
        answers.append(Answer(kind(number), f"First we look at step {index}. So the answer is $\\boxed{{{said}}}$."))
    return answers


def plain(answers: Sequence[Answer]) -> list[float]:
    """What math-verify says, one answer after the other."""
    from math_verify import parse, verify

    return [float(verify(parse(f"${a.gold}$"), parse(a.completion))) for a in answers]


def ours(answers: Sequence[Answer]) -> list[float | None]:
    """What the scorer says; None where it is undecided."""
    requests = [
        ScoreRequest(index.to_bytes(16, "big"), "math", 0, [], a.completion, {"answer": a.gold})
        for index, a in enumerate(answers)
    ]
    found: dict[bytes, float] = {}
    for batch in MathScorer(MathVerifier(kind="verifier", name="math")).score(requests):
        found |= {r.completion_id: r.score for r in batch if isinstance(r, Score)}
    return [found.get(request.completion_id) for request in requests]


def main() -> None:
    """Runs both in turn and writes medians, the ratio and the agreement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=ANSWERS)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    answers = made_up(options.answers, seed=0)
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    verdicts: dict[str, Sequence[float | None]] = {}
    for _ in range(options.runs):
        for name, run in (("plain", plain), ("ours", ours)):
            start = time.perf_counter()
            verdicts[name] = run(answers)
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    told = {
        "answers": len(answers),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "seconds": {name: [round(value, 2) for value in values] for name, values in seconds.items()},
        "ratio": round(medians["plain"] / medians["ours"], 2),
        "agree": sum(a == b for a, b in zip(verdicts["plain"], verdicts["ours"], strict=True)),
        "undecided": sum(value is None for value in verdicts["ours"]),
    }
    print(json.dumps(told, indent=2))
    if options.json:
        options.json.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
