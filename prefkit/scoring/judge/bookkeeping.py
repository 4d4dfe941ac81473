"""How the calls of a judge are named and seeded, and what a row keeps of the call it came from."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

from prefkit.sampling.protocol import Message
from prefkit.scoring.judge.calls import CallFailure, Reply

SEED_BITS = 31
"""Every server takes a seed of this size."""


class Account(NamedTuple):
    """The last columns of a row: the reply as it came, and what it cost."""

    raw: str | None
    input_tokens: int | None
    output_tokens: int | None
    cost: float | None

    def free(self) -> "Account":
        """The account of a further row of the same call: nothing is counted twice."""
        return Account(
            self.raw,
            None if self.input_tokens is None else 0,
            None if self.output_tokens is None else 0,
            None if self.cost is None else 0.0,
        )


def account(answer: Reply | CallFailure) -> Account:
    """What a call's first row keeps of it."""
    raw = (answer.text or answer.refusal) if isinstance(answer, Reply) else answer.raw
    spent = answer.spent
    if spent is None:
        return Account(storable(raw), None, None, None)
    return Account(storable(raw), spent.input_tokens, spent.output_tokens, spent.cost)


def storable(text: str | None) -> str | None:
    """The text with a question mark for every lone surrogate, which JSON can carry and UTF-8 cannot."""
    return None if text is None else text.encode(errors="replace").decode()


def call_id(
    scorer_id: int, completion_ids: Sequence[bytes], aspect: str, repeat: int, messages: Sequence[Message]
) -> str:
    """32 hex digits, the same for the same question about the same completions by the same judge."""
    texts = [text for message in messages for text in (message["role"], message["content"])]
    parts = [str(scorer_id), *(i.hex() for i in completion_ids), aspect, str(repeat), *texts]
    digest = blake2b(digest_size=16, person=b"judge call")
    for part in parts:
        data = part.encode(errors="surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def call_seed(call: str, seed: int) -> int:
    """The seed of a call's reply: another one for every call, and for every seed of the judge."""
    digest = blake2b(f"{seed} {call}".encode(), digest_size=8, person=b"judge seed").digest()
    return int.from_bytes(digest, "little") >> (64 - SEED_BITS)
