"""Which prompts a share of them holds: every prompt has a place from 0 to 1, a hash of its id, that never changes.

So `[0, 0.3]` and `[0.3, 1]` divide the prompts of any source, and a larger share holds a smaller one. The hash is
another than that of the split: a share is held out like the rest.
"""

import numpy as np
import polars as pl

from prefkit.identity import id_words, mix64
from prefkit.sampling.config import PromptShare

_KEY = np.uint64(0x7068617265)


def in_share(prompt_ids: pl.Series, share: PromptShare) -> pl.Series:
    """Whether each prompt (16 bytes) is in the share."""
    words = id_words(prompt_ids.to_arrow())[:, 0]
    # 53 bits, which a float holds: all 64 could be rounded up to 1.0, which is in no share.
    places = (mix64(words ^ mix64(np.array([_KEY]))) >> np.uint64(11)) * 2.0**-53
    low, high = share
    return pl.Series((places >= low) & (places < high))


def overlap(one: PromptShare, other: PromptShare) -> bool:
    """Whether a prompt can be in both."""
    return one[0] < other[1] and other[0] < one[1]


def below(share: PromptShare, end: float) -> PromptShare | None:
    """What of a share lies below `end`, or None."""
    low, high = share
    return (low, min(high, end)) if low < end else None
