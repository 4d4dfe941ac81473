import pytest

from tests.sources.adapters.builders import messages, refusals, shaped, spelled, texts


def battle(**changes: object) -> dict[str, object]:
    return {
        "model_a": "one",
        "model_b": "two",
        "winner": "model_a",
        "judge": "user_1",
        "conversation_a": messages("q", "a1", "r", "a2"),
        "conversation_b": messages("q", "b1", "r", "b2"),
        **changes,
    }


def test_arena_battle_of_several_turns_is_one_prompt_and_two_long_completions():
    found = shaped("arena", battle(language="English"))
    assert texts(found.prompts, "kind", "text", "metadata") == [("string", "q", '{"language":"English"}')]
    assert texts(found.completions, "slot", "model", "kind", "text") == [
        ("a", "one", "list", spelled(messages("q", "a1", "r", "a2")[1:])),
        ("b", "two", "list", spelled(messages("q", "b1", "r", "b2")[1:])),
    ]
    assert texts(found.comparisons, "preference", "scorer") == [(1.0, "user_1")]


@pytest.mark.parametrize(
    ("winner", "preference"),
    [("model_a", 1.0), ("model_b", 0.0), ("tie", 0.5), ("tie (bothbad)", 0.5), ("tie (inconsistent)", 0.5)],
)
def test_arena_winner_is_a_preference_and_every_tie_a_draw(winner: str, preference: float):
    found = shaped("arena", battle(winner=winner))
    assert texts(found.comparisons, "preference", "raw") == [(preference, winner)]


def test_arena_unknown_winner_is_a_failure_and_a_missing_one_unrated():
    found = shaped("arena", battle(winner="model_c"), battle(winner=None), battle(winner=1), battle(winner="0.5"))
    assert texts(found.comparisons, "row", "preference", "failure") == [(row, None, "unparsable") for row in (1, 3, 4)]
    assert refusals(found) == [(2, "comparisons", "unrated")]


def test_arena_vote_on_the_first_turn_is_about_the_first_answers():
    found = shaped("arena", battle(turn=1), battle(turn=2))
    assert found.completions["text"].to_list()[:2] == ["a1", "b1"]
    assert found.completions["kind"].to_list() == ["string", "string", "list", "list"]


@pytest.mark.parametrize(
    "changes",
    [
        {"turn": 3},
        {"turn": 0},
        {"turn": "last"},
        {"conversation_b": messages("q", "b1", "another", "b2")},
        {"conversation_b": messages("q", "b1", "r")},
        {"conversation_b": messages("q", "b1")},
        {"conversation_a": "q"},
        {"conversation_a": []},
        {"model_a": {"name": "one"}},
    ],
)
def test_arena_battle_that_compares_nothing_is_refused_whole(changes: dict[str, object]):
    found = shaped("arena", battle(**changes), battle())
    assert refusals(found) == [
        (1, what, "malformed") for what in ("prompts", "completions", "completions", "comparisons")
    ]
    assert found.comparisons["row"].to_list() == [2]


def test_arena_equal_first_answers_belong_to_the_prompt():
    found = shaped("arena", battle(conversation_b=messages("q", "a1", "r", "b2")))
    assert texts(found.prompts, "text") == [(spelled(messages("q", "a1", "r")),)]
    assert found.completions["text"].to_list() == ["a2", "b2"]
