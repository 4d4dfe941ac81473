"""A scorer that knows nothing: the control of the s sweep."""

from collections.abc import Sequence
from hashlib import blake2b

from prefkit.sampling.protocol import Message


def score(prompt: Sequence[Message], completion: str) -> float:
    """0 or 1 at random, always the same for the same completion of the same prompt."""
    text = "\n".join([*(message["content"] for message in prompt), completion])
    return float(blake2b(text.encode(), digest_size=1).digest()[0] & 1)
