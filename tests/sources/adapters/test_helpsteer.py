from tests.sources.adapters.builders import messages, refusals, shaped, spelled, texts

ATTRIBUTES = {"helpfulness": 4, "correctness": 3, "coherence": 4, "complexity": 1, "verbosity": 0}


def test_helpsteer_row_is_a_completion_with_five_scores():
    found = shaped(
        "helpsteer",
        {"prompt": "q", "response": "a", **ATTRIBUTES},
        {"prompt": "q", "response": "b", **ATTRIBUTES, "helpfulness": None, "verbosity": "N/A"},
    )
    assert texts(found.completions, "prompt", "slot", "text") == [("1", "response", "a"), ("2", "response", "b")]
    assert texts(found.scores, "row", "aspect", "score", "failure") == [
        (1, "helpfulness", 4.0, None),
        (1, "correctness", 3.0, None),
        (1, "coherence", 4.0, None),
        (1, "complexity", 1.0, None),
        (1, "verbosity", 0.0, None),
        (2, "correctness", 3.0, None),
        (2, "coherence", 4.0, None),
        (2, "complexity", 1.0, None),
        (2, "verbosity", None, "unparsable"),
    ]
    assert refusals(found) == [(2, "scores", "unrated")]


def test_helpsteer_marked_turns_become_messages():
    marked = "first \n<extra_id_1>Assistant\nanswer\n\n<extra_id_1>User\nsecond"
    found = shaped(
        "helpsteer",
        {"prompt": marked, "response": "a", **ATTRIBUTES},
        {"prompt": messages("q", "a", "r"), "response": "a", **ATTRIBUTES},
        {"prompt": "what does <extra_id_1>User mean?", "response": "a", **ATTRIBUTES},
    )
    assert texts(found.prompts, "kind", "text") == [
        ("list", spelled(messages("first ", "answer\n", "second"))),
        ("list", spelled(messages("q", "a", "r"))),
        ("string", "what does <extra_id_1>User mean?"),
    ]
