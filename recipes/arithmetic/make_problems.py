"""Arithmetic questions with worked solutions: bare sums and word problems of one or two steps.

Every question falls into one split by a hash of its text: `demo` (a tenth), `validation` (a tenth) or `train` (the
rest). So a policy trained on `train` has not seen the questions of `problems.jsonl`, though it has seen most of their
numbers in other words. A solution draws its wording at random, so that a policy trained on them varies its own.
Left out on purpose: division, negative results, decimals and numbers above three digits.

    python recipes/arithmetic/make_problems.py --count 400 --seed 1 > recipes/arithmetic/problems.jsonl
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from random import Random
from typing import Literal

Split = Literal["demo", "validation", "train"]
SPLITS: tuple[Split, ...] = ("demo", "validation", *["train"] * 8)

NAMES = (
    "Ada", "Ben", "Chen", "Dina", "Emil", "Fatima", "Goran", "Hana", "Ivan", "Jun", "Kofi", "Lena", "Mia", "Noor",
    "Omar", "Priya", "Quinn", "Rosa", "Sami", "Tara",
)  # fmt: skip
THINGS = ("apples", "books", "cards", "coins", "eggs", "marbles", "pencils", "shells", "stamps", "stickers")
HOLDERS = ("bags", "boxes", "crates", "jars", "packs", "trays")

# Operations to question: the first number is a, and each operation takes the next one.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "+": (
        "What is {a} + {b}?",
        "Calculate {a} + {b}.",
        "{name} has {a} {things} and gets {b} more. How many {things} does {name} have now?",
        "There are {a} {things} on the table and {b} on the floor. How many {things} are there in all?",
        "{name} found {a} {things} and {other} found {b}. How many {things} did they find together?",
    ),
    "-": (
        "What is {a} - {b}?",
        "Calculate {a} - {b}.",
        "{name} had {a} {things} and gave {b} to {other}. How many {things} does {name} have left?",
        "Of {a} {things}, {b} were sold. How many {things} remain?",
        "{name} has {a} {things} and {other} has {b}. How many more {things} does {name} have?",
    ),
    "*": (
        "What is {a} * {b}?",
        "Calculate {a} * {b}.",
        "{name} has {a} {holders} with {b} {things} each. How many {things} does {name} have?",
        "Each of {a} children brings {b} {things}. How many {things} do they bring?",
    ),
    "*+": (
        "{name} has {a} {holders} with {b} {things} each and {c} loose {things}. How many {things} is that?",
        "What is {a} * {b} + {c}?",
    ),
    "*-": (
        "{name} bought {a} {holders} of {b} {things} and used {c} {things}. How many {things} are left?",
        "What is {a} * {b} - {c}?",
    ),
    "+-": (
        "{name} had {a} {things}, found {b} more and lost {c}. How many {things} does {name} have now?",
        "What is {a} + {b} - {c}?",
    ),
    "++": (
        "{name} picked {a} {things} on Monday, {b} on Tuesday and {c} on Friday. How many {things} were picked?",
        "What is {a} + {b} + {c}?",
    ),
}

# The wording of a solution: an opening, a link before every equation but the first, and an ending.
OPENINGS = (
    "Let us work it out.", "Let us see.", "Step by step:", "Here is how:", "First, the numbers:",
    "We can compute this.", "To solve this:", "Let me think.", "This is easy.", "Start here:", "I will do the math.",
    "We know what to do.",
)  # fmt: skip
LINKS = ("Then", "Next,", "After that,", "Now", "And then", "From there,")
ENDINGS = (
    "The answer is {answer}.", "So the answer is {answer}.", "Hence the answer is {answer}.",
    "Therefore the answer is {answer}.", "Thus the final answer is {answer}.", "We are done: the answer is {answer}.",
    "That makes {answer}, so the answer is {answer}.", "This means that the answer is {answer}.",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Problem:
    """A question, the equations that solve it, and the number it asks for."""

    question: str
    steps: tuple[str, ...]
    answer: int

    def solution(self, random: Random) -> str:
        """What a good completion says, in a wording drawn evenly."""
        first, *others = self.steps
        linked = [f"{random.choice(LINKS)} {step}." for step in others]
        ending = random.choice(ENDINGS).format(answer=self.answer)
        return " ".join([random.choice(OPENINGS), f"{first}.", *linked, ending])

    @property
    def split(self) -> Split:
        digest = blake2b(self.question.encode(), digest_size=8).digest()
        return SPLITS[int.from_bytes(digest, "little") % len(SPLITS)]


def problems(split: Split, seed: int) -> Iterator[Problem]:
    """An endless stream of problems of one split, each seed another one. Questions may come again."""
    random = Random(f"{split}/{seed}")
    while True:
        problem = make_problem(random)
        if problem.split == split:
            yield problem


def make_problem(random: Random) -> Problem:
    """A problem of any split: operations, numbers, words and names are all drawn evenly."""
    operations = random.choice(list(TEMPLATES))
    value = random.randint(2, 12) if operations[0] == "*" else random.randint(2, 99)
    numbers, steps = [value], list[str]()
    for operation in operations:
        value, number, step = _applied(operation, value, random)
        numbers.append(number)
        steps.append(step)
    name, other = random.sample(NAMES, 2)
    question = random.choice(TEMPLATES[operations]).format(
        **dict(zip("abc", numbers, strict=False)),
        name=name, other=other, things=random.choice(THINGS), holders=random.choice(HOLDERS),
    )  # fmt: skip
    return Problem(question, tuple(steps), value)


def _applied(operation: str, value: int, random: Random) -> tuple[int, int, str]:
    """The result, the second number, and the equation that says so."""
    match operation:
        case "+":
            number = random.randint(2, 99)
            result = value + number
        case "-":
            number = random.randint(1, min(value, 99))
            result = value - number
        case _:
            number = random.randint(2, 12)
            result = value * number
    return result, number, f"{value} {operation} {number} = {result}"


def distinct(split: Split, count: int, seed: int) -> list[Problem]:
    """`count` problems of a split with different questions."""
    found: dict[str, Problem] = {}
    for problem in problems(split, seed):
        found.setdefault(problem.question, problem)
        if len(found) == count:
            return list(found.values())
    raise AssertionError("the stream of problems is endless")


def main() -> None:
    """Prints problems of the demo split, one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for problem in distinct("demo", options.count, options.seed):
        print(json.dumps({"question": problem.question, "answer": str(problem.answer)}))


if __name__ == "__main__":
    main()
