from tests.sources.adapters.builders import refusals, shaped, texts


def test_stack_exchange_votes_and_acceptance_are_two_aspects():
    answers = [
        {"answer_id": 7, "text": "<p>A</p>", "pm_score": 3, "selected": False},
        {"answer_id": 8, "text": "<p>B</p>", "pm_score": 1, "score": -2, "selected": True},
    ]
    found = shaped("stack_exchange", {"qid": 5, "question": "why?", "answers": answers, "metadata": ["https://a/5"]})
    assert found.keyed
    assert texts(found.prompts, "key", "text", "metadata") == [("5", "why?", '{"metadata":["https://a/5"]}')]
    assert texts(found.completions, "prompt", "slot", "key", "model", "text") == [
        ("5", "0", "7", "human", "<p>A</p>"),
        ("5", "1", "8", "human", "<p>B</p>"),
    ]
    frame = found.scores.with_columns(slot=found.scores["completion"].struct.field("slot"))
    assert texts(frame, "slot", "aspect", "score") == [
        ("0", "votes", 3.0),
        ("1", "votes", -2.0),
        ("0", "accepted", 0.0),
        ("1", "accepted", 1.0),
    ]


def test_stack_exchange_answers_without_votes_are_imported_unrated():
    found = shaped(
        "stack_exchange",
        {"question": "why?", "answers": [{"text": "A", "selected": True}, 3]},
        {"question": "who?", "answers": {"text": "A"}},
    )
    assert not found.keyed
    assert texts(found.completions, "row", "key", "text") == [(1, None, "A")]
    assert texts(found.scores, "aspect", "score") == [("accepted", 1.0)]
    assert refusals(found) == [
        (1, "completions", "malformed"),
        (1, "scores", "unrated"),
        (1, "scores", "unrated"),
        (1, "scores", "unrated"),
        (2, "completions", "malformed"),
    ]


def test_stack_exchange_question_without_its_key_is_malformed():
    found = shaped(
        "stack_exchange", {"qid": None, "question": "why?", "answers": []}, {"qid": "x", "question": "?", "answers": []}
    )
    assert refusals(found) == [(1, "prompts", "malformed")]
