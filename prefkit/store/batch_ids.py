"""Batch ids: UUIDv7 (RFC 9562), 48 bits of Unix milliseconds first, so that ids of one writer grow with time."""

import os
import threading
import time

_lock = threading.Lock()
_last = 0


def new_batch_id() -> bytes:
    """16 bytes, greater than every id this process made before."""
    global _last
    with _lock:
        moment = time.time_ns()
        # 48 bits of milliseconds and 12 bits of their fraction (RFC 9562, section 6.2, method 3).
        tick = (moment // 1_000_000 << 12) | (moment % 1_000_000 * 4096 // 1_000_000)
        _last = tick = max(tick, _last + 1)
    milliseconds, fraction = tick >> 12, tick & 0xFFF
    random = int.from_bytes(os.urandom(8), "big") & ((1 << 62) - 1)
    return ((milliseconds << 80) | (7 << 76) | (fraction << 64) | (2 << 62) | random).to_bytes(16, "big")


def batch_time(batch_id: bytes) -> float:
    """Seconds since the Unix epoch at which a batch id was made."""
    return (int.from_bytes(batch_id, "big") >> 80) / 1000
