"""Coverage estimated from a few samples against its exact value, where all answers can be enumerated.

The demo policy is taught for a few steps to answer with the number alone. Then nearly all of its mass lies on the
numbers 0 to 999, and the log-probs of all of them say exactly how much of it a version touches. Versions pair the best
and the worst of eight answers of one policy: this one, or one that was taught by somebody who is usually wrong by ten.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import polars as pl
from shift_models import Policy, demo_policy, digits, drawn, kept, make_problems, mean_of, scored
from shift_tuning import tuned

from prefkit.shift.bootstrap import Bootstrap
from prefkit.shift.coverage import answer_coverage, exact_coverage, text_coverage

PROMPTS, NUMBERS = 150, 1000
LESSONS, STEPS = 1500, 200
POOL, OWN = 36, 4
REPEATS, SOME = 200, 75
BOOTSTRAP = Bootstrap(resamples=400)


def sums(split: make_problems.Split, count: int) -> list[make_problems.Problem]:
    """Different additions of two numbers."""
    found = {p.question: p for p in make_problems.distinct(split, 40 * count, seed=2) if len(p.steps) == 1}
    return [p for p in found.values() if "+" in p.steps[0] and p.question.startswith(("What", "Calculate"))][:count]


def terse(policy: Policy, kind: str) -> Policy:
    """The demo policy, taught to say the number alone; `other` is taught by somebody who is usually wrong by ten."""
    random = Random(kind)
    off = {"terse": (0,), "other": (-10, 0, 10, 10)}[kind]
    lessons = [(p.question, str(abs(p.answer + random.choice(off)))) for p in sums("train", LESSONS)]
    return policy.with_model(kind, tuned(policy, lessons, seed=0, steps=STEPS))


def enumerated(reference: Policy, asked: Sequence[str]) -> pl.DataFrame:
    """The probability of every number as an answer to every prompt."""
    every = pl.DataFrame({"prompt": range(len(asked))}).join(
        pl.DataFrame({"text": [str(number) for number in range(NUMBERS)]}), how="cross"
    )
    found = scored(reference.reference, every, asked, 256)
    return found.select("prompt", "text", probability=pl.col("logps").exp())


def pairs(draws: pl.DataFrame, problems: Sequence[make_problems.Problem]) -> pl.DataFrame:
    """The answer nearest to the right one and the farthest, as lines of `prompt` and `text`; none where all agree."""
    gold = pl.DataFrame({"prompt": range(len(problems)), "gold": [p.answer for p in problems]})
    off = (pl.col("text").cast(pl.Int64, strict=False) - pl.col("gold")).abs()
    told = draws.join(gold, on="prompt").with_columns(off=off).drop_nulls("off").sort("prompt", "off", "draw")
    ends = told.filter(pl.col("off").n_unique().over("prompt") > 1).group_by("prompt", maintain_order=True)
    return pl.concat([ends.first(), ends.last()]).select("prompt", "text")


def against_exact(mass: pl.DataFrame, version: pl.DataFrame, pool: pl.DataFrame) -> dict[str, object]:
    """The exact share, and how estimates from OWN samples of some prompts each lie around it."""
    covered = mass.join(version.with_columns(covered=True), on=["prompt", "text"], how="left", maintain_order="left")
    shape = (PROMPTS, NUMBERS)
    exact = exact_coverage(
        mass["probability"].to_numpy().reshape(shape),
        covered["covered"].fill_null(False).to_numpy().reshape(shape),
        BOOTSTRAP,
    ).value
    generator = np.random.default_rng(0)
    found = [answer_coverage(*_some(version, pool, generator), BOOTSTRAP) for _ in range(REPEATS)]
    inside = [float(one.share.low <= exact <= one.share.high) for one in found]
    return {
        "exact": digits(exact),
        "estimates": mean_of([one.share.value for one in found]),
        "interval_holds_exact": mean_of(inside),
        "informative": mean_of([float(one.informative) for one in found]),
        "words": found[0].words,
    }


def _some(
    version: pl.DataFrame, pool: pl.DataFrame, generator: np.random.Generator
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Version and own samples on prompts drawn with replacement, each with samples of its own: fresh prompts."""
    places = pl.DataFrame({"prompt": generator.integers(0, PROMPTS, SOME), "place": np.arange(SOME)})
    numbers = generator.permuted(np.tile(np.arange(POOL), (SOME, 1)), axis=1)[:, :OWN]
    own = (
        places.with_columns(draw=pl.Series(numbers, dtype=pl.List(pl.Int64)))
        .explode("draw")
        .join(pool, on=["prompt", "draw"])
    )
    rows, samples = (frame.select("text", prompt="place") for frame in (places.join(version, on="prompt"), own))
    return rows, samples


def alike(
    mass: pl.DataFrame, problems: Sequence[make_problems.Problem], other: pl.DataFrame | None, pool: pl.DataFrame
) -> float:
    """How often `informative` is said of two versions that this policy drew; or of one, and one of another policy."""
    generator = np.random.default_rng(1)
    said: list[float] = []
    for _ in range(REPEATS):
        first = pairs(simulated(mass, generator), problems)
        second = pairs(simulated(mass, generator), problems) if other is None else other
        own = pool.filter(pl.col("draw").is_in(generator.choice(POOL, OWN, replace=False)))
        matched = [
            own.join(version.with_columns(hit=True), on=["prompt", "text"], how="left", maintain_order="left")["hit"]
            .fill_null(False)
            .to_numpy()
            for version in (first, second)
        ]
        said.append(float(text_coverage(matched[0], matched[1], own["prompt"].to_numpy(), BOOTSTRAP).informative))
    return digits(math.fsum(said) / REPEATS)


def simulated(mass: pl.DataFrame, generator: np.random.Generator, per_prompt: int = 8) -> pl.DataFrame:
    """Answers of the reference, drawn from its enumerated probabilities."""
    chances = mass["probability"].to_numpy().reshape(PROMPTS, NUMBERS)
    found = [generator.choice(NUMBERS, per_prompt, p=chance / chance.sum()) for chance in chances]
    return pl.DataFrame(
        {
            "prompt": np.repeat(np.arange(PROMPTS), per_prompt),
            "draw": np.tile(np.arange(per_prompt), PROMPTS),
            "text": [str(number) for number in np.concatenate(found)],
        }
    )


def coverage(work: Path) -> dict[str, object]:
    """Exact and estimated coverage of versions of this policy and of another one."""
    policy, problems = demo_policy(), sums("demo", PROMPTS)
    asked = [problem.question for problem in problems]
    reference, other = terse(policy, "terse"), terse(policy, "other")
    mass = kept(work / "numbers.parquet", lambda: enumerated(reference, asked))
    own = kept(work / "terse.parquet", lambda: drawn(reference, asked, range(POOL + 8), seed=0, max_new_tokens=8))
    theirs = kept(work / "other.parquet", lambda: drawn(other, asked, range(8), seed=0, max_new_tokens=8))
    pool = own.filter(pl.col("draw") < POOL)
    versions = {
        "on_policy": pairs(own.filter(pl.col("draw") >= POOL), problems),
        "other_policy": pairs(theirs, problems),
    }
    known = mass.group_by("prompt").agg(pl.col("probability").sum())["probability"]
    return {
        "prompts": PROMPTS, "answers_enumerated": NUMBERS, "own_samples": OWN,
        "mass_enumerated": digits(float(known.to_numpy().mean())),
        "versions": {
            name: {"pairs": v.height // 2, **against_exact(mass, v, pool)} for name, v in versions.items()
        },
        "informative_between_two_draws_of_one_version": alike(mass, problems, None, pool),
        "informative_between_two_policies": alike(mass, problems, versions["other_policy"], pool),
    }  # fmt: skip
