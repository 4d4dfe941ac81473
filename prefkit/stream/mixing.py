"""Mixing: which of several sources serves the next row, by weight, without chance.

Of the sources that are due, the one whose next turn must come soonest (Tijdeman 1980, "The chairman assignment
problem"). With k sources at constant weights every source's count then differs from its share by at most
1 - 1/(2k - 2), after any number of turns: at one to one they alternate, at three to one it is every fourth turn.

Counting begins anew when a phase of the schedule begins or a source ends, and holds from there on.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from prefkit.errors import RecipeError


@dataclass(frozen=True, slots=True)
class Phase:
    """Weights that hold up to a position (steps or rows, whatever the mix is asked with)."""

    weights: Mapping[str, float]
    """By source; a source that is not named, or weighs 0, has no turn."""
    until: int | None = None
    """The first position that is not in the phase; None: it lasts to the end."""


@dataclass(frozen=True, slots=True)
class MixState:
    """Where a mix stands."""

    phase: int = 0
    ended: tuple[str, ...] = ()
    """The sources that have nothing left."""
    turns: Mapping[str, int] | None = None
    """By source, since counting began."""


class Mix:
    """Says whose turn it is. Raises RecipeError for a schedule that cannot be followed."""

    def __init__(self, phases: Sequence[Phase], state: MixState | None = None) -> None:
        _refuse(phases)
        state = state or MixState()
        self._phases = phases
        self._phase, self._ended, self._turns = state.phase, set(state.ended), dict(state.turns or {})
        self._weights = self._left()

    @property
    def state(self) -> MixState:
        """Where it stands; a mix of the same phases made with it goes on from here."""
        return MixState(self._phase, tuple(sorted(self._ended)), dict(self._turns))

    def turn(self, position: int) -> str | None:
        """Whose turn it is at this position, which never goes back; None when every source has ended.

        A phase whose sources have all ended is over before its position is.
        """
        while not self._weights or not self._lasts(position):
            if self._phase + 1 == len(self._phases):
                return None
            self._phase, self._turns = self._phase + 1, {}
            self._weights = self._left()
        return _due(self._weights, self._turns)

    def took(self, source: str) -> None:
        """The source has taken its turn."""
        self._turns[source] = self._turns.get(source, 0) + 1

    def end(self, source: str) -> None:
        """The source has nothing left: its weight goes to the others, in proportion to theirs."""
        self._ended.add(source)
        self._turns = {}
        self._weights = self._left()

    def _left(self) -> dict[str, Fraction]:
        """The weights of the phase, without the sources that have ended."""
        weights = self._phases[self._phase].weights
        # The number as it is written: 0.1 is a tenth, so that shares can be met exactly.
        return {s: Fraction(repr(float(w))) for s, w in weights.items() if w and s not in self._ended}

    def _lasts(self, position: int) -> bool:
        until = self._phases[self._phase].until
        return until is None or position < until


def _due(weights: Mapping[str, Fraction], turns: Mapping[str, int]) -> str:
    if len(weights) == 1:
        return next(iter(weights))
    total, number = sum(weights.values()), sum(turns.values()) + 1
    slack = Fraction(1, 2 * len(weights) - 2)
    had = {source: turns.get(source, 0) for source in weights}
    due = [source for source, weight in weights.items() if weight / total * number - had[source] >= slack]
    return min(due, key=lambda source: (had[source] + 1 - slack) / weights[source])


def _refuse(phases: Sequence[Phase]) -> None:
    bounds = [phase.until for phase in phases]
    if not phases or bounds[-1] is not None or None in bounds[:-1]:
        raise RecipeError(
            "the mix has no phase that lasts to the end, expected exactly the last: leave out its `until`"
        )
    if any(b is not None and a is not None and b <= a for a, b in zip([0, *bounds], bounds, strict=False)):
        raise RecipeError(
            f"the phases of the mix end at {bounds[:-1]}, expected growing positions from 1: put them in order"
        )
    for number, phase in enumerate(phases):
        wrong = [f"{s}: {w:g}" for s, w in phase.weights.items() if not (math.isfinite(w) and w >= 0)]
        if wrong or not any(phase.weights.values()):
            raise RecipeError(
                f"phase {number} of the mix has the weights {wrong or dict(phase.weights)}, expected finite ones that "
                "are not negative, and one above 0"
            )
