from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.errors import RecipeError
from prefkit.stream.mixing import Mix, MixState, Phase


def turns(mix: Mix, count: int, first: int = 0) -> str:
    """Takes turns and returns whose they were, `.` for nobody's."""
    taken = ""
    for position in range(first, first + count):
        source = mix.turn(position)
        taken += source or "."
        if source:
            mix.took(source)
    return taken


@pytest.mark.parametrize(
    ("weights", "taken"),
    [
        ({"a": 1}, "aaaa"),
        ({"a": 1, "b": 1}, "abababab"),
        ({"a": 3, "b": 1}, "aabaaaba"),
        ({"a": 0.1, "b": 0.2, "c": 0.7}, "ccbccaccbc"),
        ({"a": 1, "b": 0}, "aaaa"),
    ],
)
def test_turns_of_constant_weights(weights: dict[str, float], taken: str) -> None:
    assert turns(Mix([Phase(weights)]), len(taken)) == taken


WEIGHTS = st.lists(st.integers(1, 60), min_size=1, max_size=7)


@given(WEIGHTS, st.integers(1, 150))
def test_every_count_is_within_the_bound_of_its_share_after_any_number_of_turns(weights: list[int], count: int) -> None:
    names = [chr(ord("a") + i) for i in range(len(weights))]
    taken = turns(Mix([Phase(dict(zip(names, weights, strict=True)))]), count)
    bound = 1 - 1 / (2 * len(names) - 2) if len(names) > 1 else 0
    for n in range(1, count + 1):
        counts = Counter(taken[:n])
        for name, weight in zip(names, weights, strict=True):
            assert abs(counts[name] - weight / sum(weights) * n) <= bound + 1e-9


@given(WEIGHTS, st.integers(0, 20), st.integers(0, 20), st.integers(1, 25))
def test_mix_that_goes_on_from_its_state_takes_the_same_turns(
    weights: list[int], stop: int, until: int, more: int
) -> None:
    names = [chr(ord("a") + i) for i in range(len(weights))]
    phases = [Phase({"z": 1.0, "a": 2.0}, until + 1), Phase(dict(zip(names, weights, strict=True)))]
    whole = turns(Mix(phases), stop + more)
    first = Mix(phases)
    assert turns(first, stop) + turns(Mix(phases, first.state), more, stop) == whole


def test_asking_whose_turn_it_is_takes_no_turn() -> None:
    mix = Mix([Phase({"a": 1, "b": 1})])
    assert [mix.turn(0) for _ in range(3)] == ["a", "a", "a"]


def test_schedule_changes_weights_at_its_positions() -> None:
    phases = [Phase({"v": 1}, until=4), Phase({"v": 1, "n": 1}, until=8), Phase({"n": 1})]
    assert turns(Mix(phases), 11) == "vvvv" + "vnvn" + "nnn"
    assert turns(Mix(phases), 3, first=9) == "nnn"


def test_weight_of_a_source_that_ended_goes_to_the_others_in_proportion() -> None:
    mix = Mix([Phase({"a": 2, "b": 1, "c": 1})])
    assert Counter(turns(mix, 8)) == {"a": 4, "b": 2, "c": 2}
    mix.end("b")
    assert Counter(turns(mix, 9)) == {"a": 6, "c": 3}
    mix.end("a")
    assert turns(mix, 3) == "ccc"
    mix.end("c")
    assert turns(mix, 2) == ".."


def test_phase_whose_sources_ended_is_over_and_a_later_one_brings_others() -> None:
    mix = Mix([Phase({"v": 1, "n": 0}, until=100), Phase({"v": 1, "n": 1})])
    assert turns(mix, 3) == "vvv"
    mix.end("v")
    assert turns(mix, 3, 3) == "nnn"
    assert mix.state == MixState(1, ("v",), {"n": 3})


@pytest.mark.parametrize(
    ("phases", "told"),
    [
        ([], "no phase that lasts to the end"),
        ([Phase({"a": 1}, 5)], "no phase that lasts to the end"),
        ([Phase({"a": 1}), Phase({"b": 1})], "no phase that lasts to the end"),
        ([Phase({"a": 1}, 5), Phase({"a": 1}, 5), Phase({"b": 1})], r"end at \[5, 5\], expected growing positions"),
        ([Phase({"a": 1}, 0), Phase({"b": 1})], r"end at \[0\], expected growing positions"),
        ([Phase({"a": 1, "b": -1})], r"phase 0 of the mix has the weights \['b: -1'\], expected finite ones"),
        ([Phase({"a": float("nan")})], "expected finite ones"),
        ([Phase({"a": 1}, 3), Phase({"a": 0})], r"phase 1 of the mix has the weights \{'a': 0\}, .* one above 0"),
    ],
)
def test_mix_that_cannot_be_followed_is_refused(phases: list[Phase], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        Mix(phases)
