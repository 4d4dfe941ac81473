"""Scorers for tests, reached by import path."""

import re
from collections.abc import Sequence

from prefkit.sampling.protocol import Message


def right_number(prompt: Sequence[Message], completion: str, answer: str) -> float:
    """1 when the last number of the completion is the answer."""
    numbers = re.findall(r"-?\d+", completion)
    return float(bool(numbers) and numbers[-1] == answer)


def characters(prompt: Sequence[Message], completion: str) -> float:
    """The length of the completion."""
    return float(len(completion))
