"""The clock: after which optimizer steps the sampler and the reference get the learner's weights, and how old a row may
be when it is served.

A row's *staleness* is counted in optimizer steps: the steps that were done when it is served, less those that were done
when its sampler got its weights. Just before a sync at period s it is s - 1, and at s = 1 always 0.
"""

import math
from dataclasses import dataclass

from prefkit.errors import RecipeError


@dataclass(frozen=True, slots=True)
class Clock:
    """Decides by the step alone. Raises RecipeError for periods that no run could keep."""

    sync_period: float | None = None
    """Steps between syncs; infinity: never; None: nothing is sampled."""
    reference_reset_period: int | None = None
    """Steps between resets of the reference; None: never."""
    max_staleness: int | None = None
    """No row that is older is served; None: as old as the sync period makes them."""

    def __post_init__(self) -> None:
        _refuse_period("sync_period", self.sync_period, "1 is online, .inf never syncs, null trains on a version")
        if self.reference_reset_period is not None:
            _refuse_period("reference_reset_period", self.reference_reset_period, "null never resets")
            if math.isinf(self.reference_reset_period):
                raise RecipeError(
                    "train.reference_reset_period is .inf, expected a number of steps: write null instead"
                )
        if self.max_staleness is not None and self.sync_period is not None:
            _refuse_staleness(self.max_staleness, self.sync_period)

    def syncs_at(self, step: int) -> bool:
        """Whether the sampler gets the weights of this step, which has just been done (the first is 1)."""
        return _strikes(self.sync_period, step)

    def resets_at(self, step: int) -> bool:
        """Whether the reference gets the weights of this step, which has just been done (the first is 1)."""
        return _strikes(self.reference_reset_period, step)

    def last_sync(self, step: int) -> int:
        """The step whose weights the sampler holds when training goes on after `step`; 0 is the start."""
        return _last(self.sync_period, step)

    def last_reset(self, step: int) -> int:
        """The step whose weights the reference holds when training goes on after `step`; 0 is the start."""
        return _last(self.reference_reset_period, step)

    @property
    def longest_lag(self) -> int | None:
        """The largest staleness a row may have when it is served, or None where there is no bound."""
        if self.max_staleness is not None:
            return self.max_staleness
        if self.sync_period is None or math.isinf(self.sync_period):
            return None
        return int(self.sync_period) - 1

    def fresh(self, policy_version: int | None, step: int) -> bool:
        """Whether a row of this policy version may be served after `step`; rows no learner sampled always may."""
        lag = self.longest_lag
        return policy_version is None or lag is None or step - policy_version <= lag


def refuse_reference(reference: str, reference_reset_period: int | None) -> None:
    """Raises RecipeError when a reset period is given without `reference: reset`, or the other way round."""
    if reference == "reset" and reference_reset_period is None:
        raise RecipeError(
            "train.reference is 'reset' and reference_reset_period is null, expected a number of steps: set it, or "
            "write `reference: fixed`"
        )
    if reference != "reset" and reference_reset_period is not None:
        raise RecipeError(
            f"train.reference_reset_period is {reference_reset_period} and reference is {reference!r}, expected "
            "'reset': write `reference: reset`, or leave the period out"
        )


def _refuse_period(name: str, period: float | None, remedy: str) -> None:
    if period is not None and (math.isnan(period) or period < 1 or not (math.isinf(period) or period == int(period))):
        raise RecipeError(f"train.{name} is {period:g}, expected a whole number of steps, at least 1 ({remedy})")


def _refuse_staleness(max_staleness: int, sync_period: float) -> None:
    if max_staleness < 0 or max_staleness < sync_period - 1:
        least = "no bound" if math.isinf(sync_period) else f"at least {int(sync_period) - 1}"
        raise RecipeError(
            f"train.max_staleness is {max_staleness} with sync_period {sync_period:g}, expected {least}: rows are that "
            "old before each sync; raise it, leave it out, or sync more often"
        )


def _strikes(period: float | None, step: int) -> bool:
    return period is not None and not math.isinf(period) and step >= 1 and step % int(period) == 0


def _last(period: float | None, step: int) -> int:
    return 0 if period is None or math.isinf(period) else step - step % int(period)
