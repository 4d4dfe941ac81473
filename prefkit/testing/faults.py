"""The ways in which endpoints fail, and which call is struck by which.

Whether an attempt is struck depends on the request's content and on how often that content was sent before, never on
the order in which requests arrive: a test with faults gives the same outcomes under any concurrency.
"""

from collections.abc import Mapping
from enum import StrEnum
from hashlib import blake2b


class Fault(StrEnum):
    """What goes wrong with one attempt."""

    REFUSAL = "refusal"
    """200 with a refusal in its own field. Billed."""
    MALFORMED = "malformed"
    """200 with prose where an opinion was asked for. Billed."""
    CUT_OFF = "cut_off"
    """200 with half a reply and the finish reason `length`. Billed."""
    NO_USAGE = "no_usage"
    """200 with a good reply and without `usage`. Billed."""
    SLOW = "slow"
    """200 with a good reply, after `slow_s`. Billed."""
    INVALID_JSON = "invalid_json"
    """200 with half a JSON document. Billed."""
    HTML = "html"
    """200 with a web page. Not billed."""
    RATE_LIMIT = "rate_limit"
    """429 with `Retry-After`. Not billed."""
    SERVER_ERROR = "server_error"
    """500 after the reply was made. Billed."""
    UNAVAILABLE = "unavailable"
    """503 with a web page. Not billed."""
    HANG = "hang"
    """No answer until the client goes away. Billed."""
    DISCONNECT = "disconnect"
    """The connection ends in the middle of the body. Billed."""
    UNAUTHORIZED = "unauthorized"
    """401, as for a wrong key. Not billed."""

    @property
    def billed(self) -> bool:
        """Whether the tokens were generated, and paid, though the client may never see them."""
        return self not in (Fault.HTML, Fault.RATE_LIMIT, Fault.UNAVAILABLE, Fault.UNAUTHORIZED)


def struck(rates: Mapping[Fault, float], content: bytes, attempt: int, seed: int) -> Fault | None:
    """The fault that strikes this attempt, counted from 0, if one does. Raises ValueError for rates above 1 in sum."""
    if sum(rates.values()) > 1 + 1e-9:
        raise ValueError(f"fault rates add up to {sum(rates.values()):g}, expected at most 1")
    place = uniform(content, f"fault {seed} {attempt}")
    for fault, rate in rates.items():
        if place < rate:
            return fault
        place -= rate
    return None


def uniform(content: bytes, purpose: str) -> float:
    """A number in [0, 1) that belongs to a content and a purpose."""
    return int.from_bytes(blake2b(content, digest_size=6, salt=_salt(purpose)).digest(), "big") / 2**48


def _salt(purpose: str) -> bytes:
    return blake2b(purpose.encode(), digest_size=blake2b.SALT_SIZE).digest()
