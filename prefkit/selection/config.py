"""The `aggregate` and `select` blocks of a recipe: from scores to one number, and from numbers to pairs or subsets.

Thresholds are compared on Float64 rounded to 9 decimals, since float32 margins differ between engines.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from prefkit.config import Config

DECIMALS = 9


class WeightsAggregate(Config):
    """Sum of weight x score over the named aspects, divided by the sum of the weights."""

    kind: Literal["weights"]
    weights: dict[str, float] = Field(min_length=1)
    """Weight per aspect. Aspects that are not named do not count."""


class MeanAggregate(Config):
    """The mean over all aspects."""

    kind: Literal["mean"]


class MinAggregate(Config):
    """The worst aspect decides."""

    kind: Literal["min"]


class VetoAggregate(Config):
    """The mean over all aspects, or `floor` when a vetoing aspect falls below its threshold."""

    kind: Literal["veto"]
    veto: dict[str, float] = Field(min_length=1)
    """Lowest acceptable score per vetoing aspect."""
    floor: float = 0.0
    """The score of a vetoed completion."""


AggregateConfig = Annotated[
    WeightsAggregate | MeanAggregate | MinAggregate | VetoAggregate, Field(discriminator="kind")
]


class SelectBase(Config):
    """What every strategy has."""

    seed: int = Field(default=0, ge=0, lt=2**64)
    """Of random choices; they are keyed by row, so they do not depend on the order of the data."""
    per_source: int | None = Field(default=None, ge=1)
    """Most rows kept per source, chosen at random; it comes after everything else."""


class PairBase(SelectBase):
    """What every pair strategy has. Ties are dropped and counted, always."""

    per_prompt: int | None = Field(default=1, ge=1)
    """Most pairs kept per prompt; null keeps all."""
    min_score_margin: float = Field(default=0.0, ge=0.0)
    """Smallest score margin of a pair. A margin of 0 is a tie and never a pair."""
    max_score_margin: float | None = Field(default=None, gt=0.0)
    """Largest score margin of a pair."""
    max_length_ratio: float | None = Field(default=None, ge=1.0)
    """Drop pairs whose longer completion is more than this many times the shorter, in characters."""

    @model_validator(mode="after")
    def _bounds_agree(self) -> "PairBase":
        if self.max_score_margin is not None and self.max_score_margin < self.min_score_margin:
            raise ValueError(
                f"max_score_margin is {self.max_score_margin}, below min_score_margin {self.min_score_margin}: "
                "no pair could be kept"
            )
        return self


class BestVsWorst(PairBase):
    """The highest score against the lowest."""

    kind: Literal["best_vs_worst"]


class BestVsRandom(PairBase):
    """The highest score against a random lower one."""

    kind: Literal["best_vs_random"]


class BestVsSecond(PairBase):
    """The highest score against the next lower one."""

    kind: Literal["best_vs_second"]


class AllPairs(PairBase):
    """Every pair of completions with different scores."""

    kind: Literal["all_pairs"]
    per_prompt: int | None = Field(default=None, ge=1)
    """Most pairs kept per prompt, widest margins first; null keeps all."""


class CorrectVsIncorrect(PairBase):
    """Random correct against random incorrect completions; each is used at most once while others are left."""

    kind: Literal["correct_vs_incorrect"]
    correct_at: float = 0.5
    """A score at or above this is correct."""


class GradedComparisons(PairBase):
    """Pairs that a judge or annotator compared directly; the mean preference over judges, orders and repeats decides.

    The score margin is the distance between the two sides, |2 p - 1| for a mean preference p: from 0 to 1. Of more
    than `per_prompt` pairs the widest margins are kept.
    """

    kind: Literal["comparisons"]
    tie_band: float = Field(default=0.0, ge=0.0, lt=0.5)
    """Preferences within this distance of 0.5 are ties."""


class TopKPerPrompt(SelectBase):
    """The k highest scores of each prompt, for fine-tuning."""

    kind: Literal["top_k_per_prompt"]
    k: int = Field(default=1, ge=1)
    """Completions per prompt."""
    min_score: float | None = None
    """Lowest score that counts."""


class TopKOverall(SelectBase):
    """The k highest scores of all."""

    kind: Literal["top_k_overall"]
    k: int = Field(ge=1)
    """Completions in all."""
    min_score: float | None = None
    """Lowest score that counts."""


class Threshold(SelectBase):
    """Unpaired: label true at or above `desirable_at`, false at or below `undesirable_at`, dropped between."""

    kind: Literal["threshold"]
    desirable_at: float
    """Lowest score of a desirable completion."""
    undesirable_at: float | None = None
    """Highest score of an undesirable one; just below `desirable_at` by default."""

    @model_validator(mode="after")
    def _thresholds_agree(self) -> "Threshold":
        if self.undesirable_at is not None and self.undesirable_at >= self.desirable_at:
            raise ValueError(
                f"undesirable_at is {self.undesirable_at}, expected less than desirable_at {self.desirable_at}: "
                "a score would be both"
            )
        return self


class RewardWeights(SelectBase):
    """Every scored completion with the weight exp((score - best of prompt) / temperature), normalised per prompt.

    Reward-weighted regression (Peters and Schaal 2007, eq. 10) with the maximum subtracted for stability. A cap per
    source drops rows and leaves the weights of the others as they are.
    """

    kind: Literal["reward_weights"]
    temperature: float = Field(default=1.0, gt=0.0)
    """Small values favour the best completion."""


PairConfig = BestVsWorst | BestVsRandom | BestVsSecond | AllPairs | CorrectVsIncorrect | GradedComparisons
SubsetConfig = TopKPerPrompt | TopKOverall | Threshold | RewardWeights
SelectConfig = Annotated[PairConfig | SubsetConfig, Field(discriminator="kind")]
