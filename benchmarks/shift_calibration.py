"""Is 1 % of the reference's own fresh text off-support, as it should be?

The demo policy answers 1,000 problems 40 times each. Five disjoint blocks of eight draws give five independent checks
of 4,000 fresh rows against four own samples per prompt, the default of `prefkit check`. Then the same pool says how the
share depends on how many prompts and own samples a check has: random subsets, ten of each size.
"""

from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from shift_models import BOOTSTRAP, as_rows, demo_policy, demo_problems, digits, drawn, kept, mean_of, scored

from prefkit.shift.bootstrap import Column, resampled_means
from prefkit.shift.data import shift_data
from prefkit.shift.scores import row_scores

PROMPTS, DRAWS = 1000, 40
OWN = 4
SIZES = ((100, 4), (200, 4), (400, 4), (1000, 4), (400, 1), (400, 2), (400, 8), (400, 16))
REPEATS = 10


def pool(work: Path) -> pl.DataFrame:
    """Scored draws of the reference itself."""
    policy, asked = demo_policy(), [problem.question for problem in demo_problems(PROMPTS)]

    def made(start: int) -> pl.DataFrame:
        return scored(policy.reference, drawn(policy, asked, range(start, start + 8), seed=0), asked, 256)

    return pl.concat(kept(work / f"own-{start}.parquet", partial(made, start)) for start in range(0, DRAWS, 8))


def shares(rows: pl.DataFrame, samples: pl.DataFrame, seed: int) -> tuple[pl.Series, pl.Series, pl.Series]:
    """Whether each row is off-support and too likely, and its prompt."""
    scores = row_scores(shift_data(as_rows(rows), samples), seed=seed)
    return scores.rows["off_support"], scores.rows["too_likely"], scores.rows["prompt"]


def block(frame: pl.DataFrame, seed: int) -> dict[str, object]:
    """One check of 4,000 fresh rows: shares with intervals by prompt."""
    own = frame.filter(pl.col("draw").is_between(8 * seed, 8 * seed + OWN - 1))
    fresh = frame.filter(pl.col("draw").is_between(8 * seed + OWN, 8 * seed + 7))
    off, likely, prompt = shares(fresh, own, seed)
    columns = {
        name: Column(values.cast(pl.Float64).to_numpy(), prompt.to_numpy())
        for name, values in (("off_support", off), ("too_likely", likely))
    }
    found = {name: mean.share(0.95) for name, mean in resampled_means(columns, BOOTSTRAP).items()}
    return {
        "rows": fresh.height,
        **{name: [digits(e.value), digits(e.low), digits(e.high)] for name, e in found.items()},
    }


def subset(frame: pl.DataFrame, prompts: int, own: int, generator: np.random.Generator) -> tuple[float, float]:
    """Shares of all other draws of some prompts, against some of their draws."""
    chosen = generator.choice(PROMPTS, prompts, replace=False)
    order = generator.permutation(DRAWS)
    some = frame.filter(pl.col("prompt").is_in(chosen))
    ours = some.filter(pl.col("draw").is_in(order[:own]))
    off, likely, _ = shares(some.filter(pl.col("draw").is_in(order[own:])), ours, int(generator.integers(2**31)))
    return float(off.cast(pl.Float64).to_numpy().mean()), float(likely.cast(pl.Float64).to_numpy().mean())


def calibration(work: Path) -> dict[str, object]:
    """All of the above."""
    frame = pool(work)
    blocks = [block(frame, seed) for seed in range(DRAWS // 8)]
    generator = np.random.default_rng(0)
    sizes: list[dict[str, object]] = []
    for prompts, own in SIZES:
        found = [subset(frame, prompts, own, generator) for _ in range(REPEATS)]
        off = [share for share, _ in found]
        sizes.append(
            {
                "prompts": prompts, "own_samples": own, "off_support": mean_of(off),
                "one_check": [digits(min(off)), digits(max(off))], "too_likely": mean_of([share for _, share in found]),
            }
        )  # fmt: skip
    return {"nominal": 0.01, "prompts": PROMPTS, "own_samples": OWN, "seeds": blocks, "sizes": sizes}
