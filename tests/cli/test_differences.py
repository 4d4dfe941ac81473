"""Word by word: nothing is lost, what is called common is common, and the parts are those a reader would name."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prefkit.cli.differences import Part, common_share, differences

WORDS = st.sampled_from(["the", "a", "cat", "sat", "7", "3.5", "don't", ",", ".", "\n", "\n\n", "猫", "很好", "é"])
LISTS = st.lists(WORDS, max_size=60)
TEXTS = st.one_of(st.text(max_size=60), LISTS.map(" ".join), LISTS.map("".join))


@given(TEXTS, TEXTS)
@example("a b  c\nd", "a b c\n\nd")
@example(" x", "x ")
def test_differences_joined_are_both_texts(left: str, right: str) -> None:
    parts = differences(left, right)
    assert "".join(part.left for part in parts) == left
    assert "".join(part.right for part in parts) == right
    assert all(part.left or part.right for part in parts)
    assert all(one.same != next_one.same for one, next_one in pairwise(parts))


@given(TEXTS)
def test_differences_of_equal_texts_are_one_common_part(text: str) -> None:
    assert differences(text, text) == ([Part(text, text)] if text else [])


@given(TEXTS, TEXTS)
def test_differences_of_texts_without_a_shared_character_share_nothing(left: str, right: str) -> None:
    assert 0 <= common_share(differences(left, right)) <= 1
    nothing_shared = set("".join(left.split())).isdisjoint(right)
    if nothing_shared and left.strip():
        assert common_share(differences(left, right)) == 0


@given(st.sets(st.sampled_from("abcdefgh")), st.lists(st.integers(0, 9), max_size=40))
def test_differences_mark_nothing_of_a_text_whose_words_all_stand_in_the_other(
    words: set[str], extra: list[int]
) -> None:
    shorter = [letter * 12 for letter in sorted(words)]
    longer = [*shorter]
    for place in extra:
        longer.insert(place, "extra")
    parts = differences(" ".join(shorter), " ".join(longer))
    assert not any(part.left.strip() for part in parts if not part.same)


@pytest.mark.parametrize(
    ("left", "right", "parts"),
    [
        (
            "2 * 2 = 4. After that, 4 + 10 = 14.",
            "2 * 2 = 4. And then 4 + 10 = 16.",
            [("2 * 2 = 4. ",) * 2, ("After that,", "And then"), (" 4 + 10 = ",) * 2, ("14", "16"), (".",) * 2],
        ),
        ("is 3.14", "is 3.15", [("is ",) * 2, ("3.14", "3.15")]),
        ("I don't know", "I do know", [("I ",) * 2, ("don't", "do"), (" know",) * 2]),
        ("天气很好。", "天气不好。", [("天气",) * 2, ("很", "不"), ("好。",) * 2]),
        ("one two", "one\ttwo", [("one",) * 2, (" ", "\t"), ("two",) * 2]),
        ("f(2)", "f(3)", [("f(",) * 2, ("2", "3"), (")",) * 2]),
        ("Yes. Go on", "Go on", [("Yes. ", ""), ("Go on",) * 2]),
        ("", "new", [("", "new")]),
    ],
)
def test_differences_are_words_numbers_signs_and_unspaced_characters(
    left: str, right: str, parts: list[tuple[str, str]]
) -> None:
    assert differences(left, right) == [Part(*part) for part in parts]


def test_differences_take_a_stray_word_between_long_differences_for_chance() -> None:
    parts = differences("Absolutely wonderful the evergreen forest", "Nobody knows the complete answer")
    assert parts == [Part("Absolutely wonderful the evergreen forest", "Nobody knows the complete answer")]


def test_differences_find_an_edit_in_the_middle_of_repetitions() -> None:
    left = "the cat sat. " * 20 + "stop. " + "the cat sat. " * 20
    parts = differences(left, left.replace("stop", "go"))
    assert [part for part in parts if not part.same] == [Part("stop", "go")]


def test_common_share_counts_both_texts_without_white_space() -> None:
    """Common: ab (2 of 4 and 2 of 6 characters), so 4 of 10."""
    assert common_share([Part("ab ", "ab "), Part("cd", "efgh")]) == pytest.approx(0.4)
    assert common_share(differences("a b", "a  b")) == 1.0
    assert common_share([]) == 1.0
