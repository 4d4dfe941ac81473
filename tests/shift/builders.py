"""A reference model with a known law, and versions made of its samples or of somebody else's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from prefkit.shift.data import ROWS, Floats, ShiftData, shift_data
from prefkit.shift.support import Tokens


@dataclass(frozen=True)
class Reference:
    """Token surprises are gamma, lengths lognormal; prompts and single completions have rates of their own."""

    rates: Floats
    lengths: Floats
    within: float
    shape: float = 0.4

    @classmethod
    def of(cls, prompts: int, seed: int, *, between: float = 0.15, within: float = 0.08) -> "Reference":
        generator = np.random.default_rng(seed)
        rates = np.exp(generator.normal(0, between, prompts))
        return cls(rates, np.exp(generator.normal(4.3, 0.5, prompts)), within)

    def draw(self, per_prompt: int, seed: int, *, unlikelier: float = 1.0, longer: float = 1.0) -> Tokens:
        """Its own samples, or with factors other than 1 those of another policy."""
        generator = np.random.default_rng(seed)
        prompts = np.repeat(np.arange(len(self.rates)), per_prompt)
        spread = np.exp(generator.normal(0, 0.5, len(prompts)))
        tokens = np.maximum(1, np.round(spread * self.lengths[prompts] * longer)).astype(np.int64)
        rates = self.rates[prompts] * np.exp(generator.normal(0, self.within, len(prompts))) * unlikelier
        return Tokens(rates * generator.gamma(self.shape * tokens) / self.shape / tokens, tokens, prompts)


def rows(
    tokens: Tokens,
    side: str,
    *,
    sources: Sequence[str] = ("web",),
    sampling_logps: Floats | None = None,
    staleness: Sequence[int | None] | None = None,
) -> pl.DataFrame:
    """Completions as one side of pairs; prompts go round the sources."""
    return pl.DataFrame(
        {
            "row": np.arange(len(tokens.nll)),
            "prompt": tokens.prompts,
            "source": [sources[prompt % len(sources)] for prompt in tokens.prompts],
            "side": side,
            "logps": -tokens.nll * tokens.tokens,
            "tokens": tokens.tokens,
            "sampling_logps": sampling_logps,
            "cut": False,
            "staleness": staleness,
        },
        ROWS,
    )


def samples(tokens: Tokens) -> pl.DataFrame:
    """Completions as the reference's own samples."""
    return pl.DataFrame({"prompt": tokens.prompts, "logps": -tokens.nll * tokens.tokens, "tokens": tokens.tokens})


def version(
    prompts: int = 400,
    seed: int = 0,
    *,
    sources: Sequence[str] = ("web",),
    chosen: Mapping[str, float] | None = None,
    rejected: Mapping[str, float] | None = None,
) -> ShiftData:
    """One pair per prompt, on-policy but for the factors that are given, against four samples per prompt."""
    reference = Reference.of(prompts, seed)
    good = rows(reference.draw(1, seed + 1, **(chosen or {})), "chosen", sources=sources)
    bad = rows(reference.draw(1, seed + 2, **(rejected or {})), "rejected", sources=sources)
    return shift_data(pl.concat([good, bad]), samples(reference.draw(4, seed + 3)))
