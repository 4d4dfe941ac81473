"""Sums over the rows of each prompt, which the statistics of shift are made of."""

import numpy as np

from prefkit.shift.data import Floats, Integers


def summed(values: Floats, codes: Integers, prompts: int = 0) -> Floats:
    """The sum of each prompt's values; `codes` number the prompts from 0. At least `prompts` long."""
    return np.asarray(np.bincount(codes, values, prompts), np.float64)


def counted(codes: Integers, prompts: int = 0) -> Floats:
    """How many rows each prompt has. At least `prompts` long."""
    return np.bincount(codes, minlength=prompts).astype(np.float64)


def centred(values: Floats, codes: Integers) -> Floats:
    """Each value less the mean of its prompt."""
    return values - (summed(values, codes) / counted(codes))[codes]
