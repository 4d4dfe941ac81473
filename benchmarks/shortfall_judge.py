"""The scorer of the shortfall benchmark: right is right, however a policy writes its numbers."""

from collections.abc import Sequence

from prefkit.sampling.protocol import Message


def score(prompt: Sequence[Message], completion: str) -> float:
    """1 for the sum that the prompt asks for, leading zeros or a sign allowed, else 0."""
    a, b = prompt[-1]["content"].split("+")
    try:
        return float(int(completion) == int(a) + int(b))
    except ValueError:
        return 0.0
