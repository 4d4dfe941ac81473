import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.scoring.judge.replies import Preference, Rating, Unread, preference, ratings
from tests.scoring.judge.builders import aspect, reply

REFUSED, UNPARSABLE, CUT_OFF = "refused", "unparsable", "cut_off"
JSON = '{"rationale": "It is right.", "score": 4}'


def read(text: str, **fields: str) -> float | str:
    (found,) = ratings(reply(text, **fields), [aspect()])
    return found.level if isinstance(found, Rating) else found.kind.value


def preferred(text: str, **fields: str) -> float | str:
    found = preference(reply(text, **fields))
    return found.first if isinstance(found, Preference) else found.kind.value


@pytest.mark.parametrize(
    ("text", "level"),
    [
        (JSON, 4),
        (f"  {JSON}\n", 4),
        (f"```json\n{JSON}\n```", 4),
        (f"Here is my rating: {JSON} I hope it helps.", 4),
        ('{"Score": "4"}', 4),
        ('{"rating": "4/5"}', 4),
        ('{"quality": {"rationale": "Fine.", "score": 4}}', 4),
        ('{"quality": 4}', 4),
        ('{"rationale": "A score: 2 would be too hard.", "score": 4}', 4),
        ('{"rationale": "It says {\\"score\\": 5} itself.", "score": 4}', 4),
        ("It is right. Rating: [[4]]", 4),
        ("It is right. Rating: [[3.5]]", 3.5),
        ("Feedback: it is right. [RESULT] 4", 4),
        ("Feedback: it is right. [RESULT] Score: 4.", 4),
        ("Feedback: it is right. [RESULT] (4)", 4),
        ("It is right.\n\n**Score:** 4/5", 4),
        ("Final score = 4 out of 5, since it is right.", 4),
        ("###Score: 4", 4),
        ("Quality: 4\nTone: 2", 4),
        ("Quality score: **4**", 4),
        ("Rating: [[4]]. To repeat: Score: 4/5.", 4),
        ("<think>Score: 2? No.</think>Score: 4", 4),
        ("I cannot find any fault in it. Score: 5", 5),
        ("Score: 4\n- 2 small slips", 4),
    ],
)
def test_rating_in_an_explicit_form_is_read(text: str, level: float) -> None:
    assert read(text) == level


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n ",
        "It is right and deserves four points.",
        "I would give it 4.",
        "Rating: [[3]] or rather [[4]]",
        "Score: 3\nScore: 4",
        f'{JSON} {{"score": 5}}',
        f"{JSON} Rating: [[2]]",
        '{"score": 4, "rating": 5}',
        '{"score": 4, "Score": 5}',
        '{"score": 4, "score": 5}',
        "Score: 3-4",
        "Score: 3 to 4",
        "Score: 3 \u2013 4",
        "Score: 4/10",
        "Score: 4 and Rating: 4/10",
        "Score: 4/five",
        "Score: 4 / five",
        "Score: 80%",
        "Score: 4,5",
        "Score: 4th",
        "Score:\n1. It is right.\n2. It is short.",
        "Rating: [[6]]",
        "Rating: [[0]]",
        "Score: -4",
        '{"score": 6}',
        '{"score": 1e999} Score: 4',
        '{"score": NaN}',
        '{"score": true}',
        '{"score": null}',
        '{"score": null} Score: 4',
        '{"score": "four"}',
        '{"score": [4]}',
        '{"rationale": "Score: 4"}',
        '{"rationale": "It is right", "score": 4',
        "Rating: [[rating]]",
        "Dequality: 4",
        '{"score":' + "[" * 100_000,
        '{"score":' * 20_000,
        '{"score": ' + "9" * 5_000 + "}",
    ],
)
def test_rating_that_is_missing_doubtful_or_off_the_scale_is_unparsable(text: str) -> None:
    assert read(text) == UNPARSABLE


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't assist with that.",
        "I\u2019m truly sorry that you feel this way.",
        "Sorry, I have to pass.",
        "I cannot rate this.",
        '"I am unable to evaluate such content."',
        "I apologize, this goes too far.",
        "As an AI, I have no opinion.",
    ],
)
def test_reply_that_begins_like_a_refusal_and_holds_no_verdict_is_refused(text: str) -> None:
    assert read(text) == preferred(text) == REFUSED


@pytest.mark.parametrize("text", ["I cannot see a fault.", "I do. I'm sorry.", "It says: I cannot assist with that."])
def test_reply_that_only_speaks_of_refusing_is_unparsable(text: str) -> None:
    assert read(text) == preferred(text) == UNPARSABLE


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"refusal": "No."}, REFUSED),
        ({"finish_reason": "content_filter"}, REFUSED),
        ({"finish_reason": "length"}, CUT_OFF),
    ],
)
def test_reply_that_the_endpoint_ended_gives_no_verdict_even_if_it_holds_one(fields: dict[str, str], kind: str) -> None:
    assert read(JSON, **fields) == kind
    assert preferred("[[A]]", **fields) == kind


def test_rationale_of_a_constrained_reply_is_kept() -> None:
    assert ratings(reply(JSON), [aspect()]) == [Rating(4.0, "It is right.")]


def test_unread_rating_says_what_was_wrong() -> None:
    told = [ratings(reply(text), [aspect()])[0] for text in ("[[3]] [[4]]", "Score: 4/10", "[[7]]", '{"score": "x"}')]
    assert [found.detail for found in told if isinstance(found, Unread)] == [
        "the reply holds more than one score for 'quality': 3 and 4",
        "the score for 'quality' is 4 of 10, expected 1 to 5",
        "the score for 'quality' is 7, expected 1 to 5",
        "the score for 'quality' is 'x', expected 1 to 5",
    ]


def together(text: str) -> list[float | str]:
    found = ratings(reply(text), [aspect("tone"), aspect("word_choice"), aspect("depth", 10)])
    return [x.level if isinstance(x, Rating) else x.kind.value for x in found]


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ('{"tone": {"rationale": "a", "score": 1}, "word_choice": {"score": 2}, "depth": {"score": 9}}', [1, 2, 9]),
        ('{"tone": 1, "Word choice": 2, "depth": 9}', [1, 2, 9]),
        ('{"tone": {"score": 1}, "depth": {"score": 9}}', [1, UNPARSABLE, 9]),
        ('{"tone": 7, "word_choice": 2, "depth": 9}', [UNPARSABLE, 2, 9]),
        ("Tone: 1/5\nWord choice: 2\n**Depth**: 9/10", [1, 2, 9]),
        ("Tone: 1\nTone: 2\nDepth: 9", [UNPARSABLE, UNPARSABLE, 9]),
        ("Score: 4", [UNPARSABLE] * 3),
        ("[[4]]", [UNPARSABLE] * 3),
        ('{"score": 4}', [UNPARSABLE] * 3),
        ("I'm sorry, I can't.", [REFUSED] * 3),
    ],
)
def test_reply_on_several_aspects_fails_only_those_it_leaves_out(text: str, levels: list[float | str]) -> None:
    assert together(text) == levels


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ('{"rationale": "Both.", "verdict": "A>>B"}', 1),
        ('{"verdict": "A>B"}', 0.75),
        ('{"verdict": "A=B"}', 0.5),
        ('{"verdict": "b > a"}', 0.25),
        ('{"verdict": "B>>A"}', 0),
        ('{"verdict": "B<<A"}', 1),
        ('{"winner": "tie"}', 0.5),
        ("A is clearer. [[A]]", 1),
        ("B is clearer. [[B]]", 0),
        ("No difference. [[C]]", 0.5),
        ("My final verdict is: [[B>A]]", 0.25),
        ("Verdict: A", 1),
        ("**Winner:** B.", 0),
        ("Verdict: tie", 0.5),
        ("Verdict: A=B, as both are right.", 0.5),
    ],
)
def test_preference_in_an_explicit_form_is_read_for_the_first_shown(text: str, first: float) -> None:
    assert preferred(text) == first


@pytest.mark.parametrize(
    "text",
    [
        "A is better.",
        "[[A]] or [[B]]",
        "[[D]]",
        "Verdict: A good answer on both sides",
        '{"verdict": "A"} [[B]]',
        '{"verdict": "the first"}',
        '{"verdict": 1}',
        "Verdict: A>B>A",
        "",
    ],
)
def test_preference_that_is_missing_or_doubtful_is_unparsable(text: str) -> None:
    assert preferred(text) == UNPARSABLE


@given(st.text(), st.integers(1, 5))
def test_rating_of_a_constrained_reply_is_its_score_whatever_the_rationale_says(rationale: str, score: int) -> None:
    found = ratings(reply(json.dumps({"rationale": rationale, "score": score})), [aspect()])
    assert found == [Rating(score, rationale)]


@given(st.text(alphabet="Score: [[]]{}\"'123456789/.-\n\\", max_size=60))
def test_reply_of_any_text_gives_a_level_on_the_scale_or_a_reason(text: str) -> None:
    (found,) = ratings(reply(text), [aspect()])
    assert isinstance(found, Unread) or 1 <= found.level <= 5
