import pytest

from tests.sources.adapters.builders import messages, refusals, shaped, spelled, texts

ANSWER = {"role": "assistant", "content": "yes"}
SYSTEM = {"role": "system", "content": "Be brief."}
REFUSED_WHOLE = ["prompts", "completions", "completions", "comparisons"]


@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected"),
    [
        ("q", "yes", "no"),
        ("q", [ANSWER], "no"),
        ("q", messages("q", "yes"), messages("q", "no")),
        (messages("q"), messages("q", "yes"), messages("q", "no")),
        (None, messages("q", "yes"), messages("q", "no")),
    ],
)
def test_trl_spellings_of_one_pair_are_one_pair(prompt: object, chosen: object, rejected: object):
    found = shaped("trl", {"prompt": prompt, "chosen": chosen, "rejected": rejected})
    spelled_as = (
        ("list", spelled(messages("q"))) if isinstance(prompt, list) and chosen == [ANSWER] else ("string", "q")
    )
    assert texts(found.prompts, "kind", "text") == [spelled_as]
    assert texts(found.completions, "slot", "kind", "text") == [("a", "string", "yes"), ("b", "string", "no")]
    assert texts(found.comparisons, "preference", "scorer") == [(1.0, "trl")]
    assert found.refused.is_empty()


def test_trl_conversation_with_a_system_message_keeps_it_in_the_prompt():
    chosen, rejected = [SYSTEM, *messages("q", "yes")], [SYSTEM, *messages("q", "no")]
    found = shaped("trl", {"prompt": "q", "chosen": chosen, "rejected": rejected})
    assert texts(found.prompts, "kind", "text") == [("list", spelled([SYSTEM, *messages("q")]))]


def test_trl_given_prompt_is_kept_where_the_answers_go_on_alike():
    found = shaped(
        "trl",
        {"prompt": messages("q"), "chosen": messages("q", "a", "r", "b"), "rejected": messages("q", "a", "r", "c")},
    )
    assert texts(found.prompts, "text") == [(spelled(messages("q")),)]
    assert found.completions["text"].to_list() == [spelled(messages("q", "a", "r", end)[1:]) for end in ("b", "c")]


@pytest.mark.parametrize(
    ("row", "outcome"),
    [
        ({"prompt": None, "chosen": "q yes", "rejected": "q no"}, "missing_prompt"),
        ({"prompt": "q", "chosen": messages("r", "yes"), "rejected": messages("r", "no")}, "malformed"),
        ({"prompt": None, "chosen": messages("q", "yes"), "rejected": messages("r", "no")}, "malformed"),
        ({"prompt": "q", "chosen": [], "rejected": "no"}, "malformed"),
        ({"prompt": "q", "chosen": messages("q"), "rejected": "no"}, "malformed"),
        ({"prompt": "q", "chosen": "yes", "rejected": "no", "tools": [{"name": "f"}]}, "unsupported_content"),
        ({"prompt": "q", "chosen": "yes", "rejected": "no", "images": ["x"]}, "unsupported_content"),
    ],
)
def test_trl_row_without_a_sure_pair_is_refused_whole(row: dict[str, object], outcome: str):
    found = shaped("trl", row, {"prompt": "q", "chosen": "yes", "rejected": "no", "tools": []})
    assert refusals(found) == [(1, what, outcome) for what in REFUSED_WHOLE]
    assert found.comparisons["row"].to_list() == [2]


def test_trl_scores_belong_to_their_sides():
    row = {"prompt": "q", "chosen": "yes", "rejected": "no", "score_chosen": 8.5, "score_rejected": "N/A"}
    found = shaped(
        "trl", row, {"prompt": "q", "chosen": "a", "rejected": "b", "score_chosen": None, "score_rejected": 1}
    )
    frame = found.scores.with_columns(slot=found.scores["completion"].struct.field("slot"))
    assert texts(frame, "row", "slot", "aspect", "score", "failure") == [
        (1, "a", "overall", 8.5, None),
        (1, "b", "overall", None, "unparsable"),
        (2, "b", "overall", 1.0, None),
    ]
    assert refusals(found) == [(2, "scores", "unrated")]


def test_trl_unpaired_label_is_a_score_of_one_or_nought():
    found = shaped(
        "trl",
        {"prompt": "q", "completion": "a", "label": True},
        {"prompt": messages("q"), "completion": messages("q", "b"), "label": False},
        {"prompt": "q", "completion": "c", "label": None},
        {"prompt": "q", "completion": "d", "label": "good"},
        {"prompt": "q", "completion": messages("r"), "label": True},
    )
    assert texts(found.completions, "row", "text") == [(1, "a"), (2, "b"), (3, "c"), (4, "d")]
    assert texts(found.scores, "row", "aspect", "score", "failure") == [
        (1, "label", 1.0, None),
        (2, "label", 0.0, None),
        (4, "label", None, "unparsable"),
    ]
    assert refusals(found) == [
        (3, "scores", "unrated"),
        (5, "prompts", "malformed"),
        (5, "completions", "malformed"),
        (5, "scores", "malformed"),
    ]
