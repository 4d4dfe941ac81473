"""What a version's manifest says of its shift, as commands print it."""

from typing import Any, cast

from prefkit.cli.console import counted
from prefkit.shift.report import crossed_words
from prefkit.store.versions import Version

CROSSED = 1
"""The exit code of a command whose gate is crossed."""


def shift_word(version: Version) -> str:
    """The verdict in one word, with the gate where it is crossed; empty without a check."""
    shift = version.content["shift"]
    if shift is None:
        return ""
    return str(shift["verdict"]) + ("" if shift["passed"] else ", crossed")


def shift_lines(version: Version) -> list[str]:
    """What the check found, a line, and a line for each limit that was crossed; none without a check."""
    if version.content["recipe"]["check"] is None:
        return []
    shift = version.content["shift"]
    if shift is None:
        return ["shift: no row is left to check"]
    overall = cast("dict[str, Any]", shift["overall"])
    sides = ", ".join(f"{side['off_support']['value']:.1%} of {side['side']}" for side in overall["sides"])
    by = f"{counted(overall['rows'], 'row')} against {counted(overall['samples'], 'sample')} of the reference"
    return [f"shift: {shift['verdict']}; off-support: {sides} ({by})", *gate_lines(version)]


def gate_lines(version: Version) -> list[str]:
    """A line for each limit of the recipe that the version crosses."""
    shift = version.content["shift"]
    return [f"gate: crossed: {words}" for words in crossed_words(shift)] if shift else []


def gate_code(version: Version) -> int:
    """What a command that made the version exits with."""
    return CROSSED if gate_lines(version) else 0
