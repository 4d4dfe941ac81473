"""How long to wait before another attempt: exponential backoff with full jitter, or what the server asks for.

Full jitter: uniform between 0 and a ceiling that doubles with every attempt, so that callers who failed together do not
come back together (Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015).
"""

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime


@dataclass(frozen=True, slots=True)
class Backoff:
    """Attempts, and the seconds between them."""

    attempts: int = 6
    first_s: float = 0.5
    """Ceiling of the first wait; it doubles with every attempt."""
    longest_s: float = 30.0
    """No ceiling is above this."""
    longest_retry_after_s: float = 120.0
    """A server that asks for more is asked again after this long."""

    def delay_s(self, attempt: int, retry_after_s: float | None, draw: float) -> float:
        """The wait after attempt `attempt`, counted from 0; `draw` is uniform in [0, 1).

        Never less than the server asks for, up to the cap; a little jitter keeps its clients apart.
        """
        ceiling = min(self.longest_s, self.first_s * 2.0 ** min(attempt, 60))
        if retry_after_s is None:
            return ceiling * draw
        return min(retry_after_s, self.longest_retry_after_s) + self.first_s * draw

    def drawn_delay_s(self, attempt: int, retry_after_s: float | None) -> float:
        """`delay_s` with a draw of its own."""
        return self.delay_s(attempt, retry_after_s, random.random())


def retry_after_s(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """The seconds a `Retry-After` header asks for, given as a number or as an HTTP date (RFC 9110, 10.2.3).

    `retry-after-ms`, which some endpoints add, is preferred. None when there is no header that can be read.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None or value is None:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - (time.time() if now is None else now))
    except (ValueError, TypeError):
        return None


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None else -1.0
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
