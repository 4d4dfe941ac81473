from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prefkit.errors import RecipeError
from prefkit.scoring.config import ExactVerifier, LengthVerifier, RegexVerifier
from prefkit.scoring.protocol import Scorer
from prefkit.scoring.rules import RuleScorer
from tests.scoring.builders import outcome, outcomes, requests


def exact(ignore_case: bool = False, ignore_space: bool = True) -> Scorer:
    config = ExactVerifier(kind="verifier", name="exact", ignore_case=ignore_case, ignore_space=ignore_space)
    return RuleScorer.open(config, Path())


def regex(pattern: str) -> Scorer:
    return RuleScorer.open(RegexVerifier(kind="verifier", name="regex", pattern=pattern), Path())


def length(**bounds: object) -> Scorer:
    return RuleScorer.open(LengthVerifier.model_validate({"kind": "verifier", "name": "length"} | bounds), Path())


@pytest.mark.parametrize(
    ("completion", "gold", "expected"),
    [
        ("Paris", "Paris", 1.0),
        ("paris", "Paris", 0.0),
        ("  New \n York\u00a0", "New York", 1.0),
        ("NewYork", "New York", 0.0),
        ("", "", 1.0),
        ("Zürich", "Zürich", 1.0),
        ("Paris", None, "missing_input"),
    ],
)
def test_exact_ignores_space_at_the_ends_and_its_amount_alone(
    completion: str, gold: str | None, expected: float | str
) -> None:
    assert outcome(exact(), completion, gold) == expected


def test_exact_with_ignore_case_folds_case_in_every_script() -> None:
    asked = requests(("STRASSE", "straße"), ("ΟΔΟΣ", "οδος"), ("Paris", "London"))
    assert outcomes(exact(ignore_case=True), asked) == [1.0, 1.0, 0.0]


def test_exact_without_ignore_space_compares_every_character() -> None:
    asked = requests(("a b", "a b"), ("a  b", "a b"), (" a b", "a b"))
    assert outcomes(exact(ignore_space=False), asked) == [1.0, 0.0, 0.0]


@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))))
def test_exact_without_normalisation_is_equality_of_texts(pairs: list[tuple[str, str]]) -> None:
    expected = [float(completion == gold) for completion, gold in pairs]
    assert outcomes(exact(ignore_space=False), requests(*pairs)) == expected


@pytest.mark.parametrize(
    ("pattern", "completion", "expected"),
    [
        (r"<answer>\d+</answer>", "so <answer>42</answer>", 1.0),
        (r"^\d+$", "42 apples", 0.0),
        (r"(?i)sorry", "I am SORRY", 1.0),
        (r"\p{Han}", "答案", 1.0),
        (r"^$", "", 1.0),
    ],
)
def test_regex_scores_whether_it_is_found(pattern: str, completion: str, expected: float) -> None:
    assert outcome(regex(pattern), completion, None) == expected


@pytest.mark.parametrize(
    ("pattern", "reason"), [("(", "unclosed group"), ("(?<=a)b", "look-around"), (r"\d{1000000}", "size limit")]
)
def test_regex_that_is_invalid_is_refused_in_one_line_at_opening(pattern: str, reason: str) -> None:
    with pytest.raises(RecipeError, match=reason) as told:
        regex(pattern)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("bounds", "completion", "expected"),
    [
        ({"min": 3}, "abc", 1.0),
        ({"min": 4}, "abc", 0.0),
        ({"max": 3}, "abc", 1.0),
        ({"max": 2}, "abc", 0.0),
        ({"max": 0}, "", 1.0),
        ({"min": 3, "max": 3}, "äöü", 1.0),
        ({"unit": "words", "min": 3, "max": 3}, " three\nwhole\u00a0words ", 1.0),
        ({"unit": "words", "min": 1}, " \n ", 0.0),
    ],
)
def test_length_scores_whether_it_lies_within_both_bounds(
    bounds: dict[str, object], completion: str, expected: float
) -> None:
    assert outcome(length(**bounds), completion, None) == expected


def test_length_with_bounds_that_exclude_everything_is_refused() -> None:
    with pytest.raises(ValidationError, match="min 5 and max 4"):
        length(min=5, max=4)


@pytest.mark.parametrize("scorer", [exact(), regex("a"), length()])
def test_rules_of_no_requests_give_no_rows(scorer: Scorer) -> None:
    assert list(scorer.score([])) == []
