import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.sources.adapters.hh_rlhf import dialogue, dialogue_text
from prefkit.sources.conversations import Refusal
from tests.sources.adapters.builders import refusals, shaped, spelled, texts

ASKED = "\n\nHuman: Hi there\n\nAssistant: Hello.\n\nHuman: Tell me a joke\n\nAssistant: "


def turns(text: str) -> list[tuple[str, str]]:
    found = dialogue(text)
    assert not isinstance(found, Refusal)
    return [(turn["role"], turn["content"]) for turn in found]


def test_hh_rlhf_pair_shares_every_turn_up_to_the_last_answer():
    found = shaped("hh_rlhf", {"chosen": ASKED + "Knock knock.", "rejected": ASKED + "No.", "subset": "helpful"})
    prompt = [
        {"role": "user", "content": "Hi there"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Tell me a joke"},
    ]
    assert texts(found.prompts, "row", "kind", "text", "source") == [(1, "list", spelled(prompt), "helpful")]
    assert texts(found.completions, "slot", "model", "kind", "text") == [
        ("a", None, "string", "Knock knock."),
        ("b", None, "string", "No."),
    ]
    (comparison,) = found.comparisons.rows(named=True)
    assert (comparison["a"]["slot"], comparison["b"]["slot"]) == ("a", "b")
    assert (comparison["preference"], comparison["scorer"], comparison["order"]) == (1.0, "hh_rlhf", "unknown")
    assert found.refused.is_empty()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\n\nHuman: a\n\nAssistant: ", [("user", "a"), ("assistant", "")]),
        ("\n\nHuman:   a \n\n\nAssistant: b\n\n", [("user", "  a \n"), ("assistant", "b\n\n")]),
        ("\n\nHuman: a\n\nHuman: b\n\nAssistant: c", [("user", "a"), ("user", "b"), ("assistant", "c")]),
        ("\n\nHuman: a\n\nAssistant: Human: b\nAssistant: c", [("user", "a"), ("assistant", "Human: b\nAssistant: c")]),
        ("\n\nAssistant: a\n\nHuman: b", [("assistant", "a"), ("user", "b")]),
    ],
)
def test_hh_rlhf_dialogue_keeps_every_character(text: str, expected: list[tuple[str, str]]):
    assert turns(text) == expected
    found = dialogue(text)
    assert not isinstance(found, Refusal)
    assert dialogue_text(found) == text


@given(
    st.lists(st.sampled_from(["\n\nHuman: ", "\n\nAssistant: ", "\n", " ", "\n\nHuman:", "Human: ", "a"]), max_size=9)
)
def test_hh_rlhf_dialogue_is_written_back_or_refused(parts: list[str]):
    text = "".join(parts)
    found = dialogue(text)
    assert isinstance(found, Refusal) or dialogue_text(found) == text


@pytest.mark.parametrize(
    ("chosen", "rejected", "detail"),
    [
        ("Hi\n\nAssistant: a", ASKED + "b", "chosen: the dialogue does not begin with a mark of a speaker"),
        (ASKED + "a", ASKED[:-1], "rejected: no space follows the mark at character 60"),
        (ASKED + "a", None, "rejected is of kind null, expected a dialogue as text"),
        (ASKED + "a", ["b"], "rejected is of kind list, expected a dialogue as text"),
        (ASKED + "a", ASKED + "a\n\nHuman: b", "the second conversation does not end with an answer"),
        ("\n\nHuman: a\n\nAssistant: b", "\n\nHuman: c\n\nAssistant: b", "share no message of the user"),
    ],
)
def test_hh_rlhf_row_that_cannot_be_split_is_refused_whole(chosen: object, rejected: object, detail: str):
    good = {"chosen": ASKED + "x", "rejected": ASKED + "y"}
    found = shaped("hh_rlhf", {"chosen": chosen, "rejected": rejected}, good)
    assert refusals(found) == [
        (1, what, "malformed") for what in ("prompts", "completions", "completions", "comparisons")
    ]
    assert detail in found.refused["detail"][0]
    assert found.completions["row"].to_list() == [2, 2]


def test_hh_rlhf_answer_that_goes_on_is_a_completion_of_two_messages():
    start = "\n\nHuman: a\n\nAssistant: "
    found = shaped("hh_rlhf", {"chosen": start + "b\n\nAssistant: c", "rejected": start + "d"})
    two = [{"role": "assistant", "content": "b"}, {"role": "assistant", "content": "c"}]
    assert texts(found.completions, "kind", "text") == [("list", spelled(two)), ("string", "d")]
    assert texts(found.prompts, "kind", "text") == [("string", "a")]
