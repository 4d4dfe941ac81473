import pytest

from tests.sources.adapters.builders import refusals, shaped, texts


def judge_prompt(instruction: str = "Say hi", response: str = " Hi\n") -> str:
    return (
        "###Task Description:\nGrade it.\n\n"
        f"###The instruction to evaluate:\n{instruction} \n\n"
        f"###Response to evaluate:\n{response}\n\n"
        "###Reference Answer (Score 5):\nHello\n\n"
        "###Score Rubrics:\n[Is it kind?]\nScore 1: no.\n\n"
        "###Feedback: "
    )


def row(**changes: object) -> dict[str, object]:
    return {
        "judge_prompt": judge_prompt(),
        "response_source": "m",
        "gpt4_scores": [4, 2.0, 4],
        "gpt4_feedbacks": ["x", "y", "z"],
        **changes,
    }


def test_sections_are_cut_out_of_the_judges_prompt():
    found = shaped("rubric_judge", row())
    assert texts(found.prompts, "text", "answer", "metadata") == [
        ("Say hi", "Hello", '{"rubric":"[Is it kind?]\\nScore 1: no."}')
    ]
    assert texts(found.completions, "model", "text") == [("m", " Hi\n")]


def test_grades_of_one_response_are_repeats_with_their_feedbacks():
    found = shaped("rubric_judge", row())
    assert texts(found.scores, "repeat", "score", "rationale", "scorer") == [
        (0, 4.0, "x", "gpt-4"),
        (1, 2.0, "y", "gpt-4"),
        (2, 4.0, "z", "gpt-4"),
    ]


def test_null_grade_is_unrated_and_keeps_the_repeats_of_the_others():
    found = shaped("rubric_judge", row(gpt4_scores=[4, None, "bad"]))
    assert texts(found.scores, "repeat", "score", "rationale", "failure") == [
        (0, 4.0, "x", None),
        (2, None, "z", "unparsable"),
    ]
    assert refusals(found) == [(1, "scores", "unrated")]


def test_feedbacks_of_another_number_label_nothing():
    found = shaped(
        "rubric_judge",
        row(gpt4_feedbacks=["x", "z"]),
        row(gpt4_feedbacks="x"),
        row(gpt4_scores=None),
        row(gpt4_feedbacks=None),
    )
    assert refusals(found) == [(n, "scores", "malformed") for n in (1, 2, 3)]
    assert texts(found.scores, "row", "rationale") == [(4, None)] * 3


@pytest.mark.parametrize(
    "prompt", ["Grade it.", None, 3, judge_prompt(response="###Score Rubrics:\nmine"), judge_prompt()[::-1]]
)
def test_prompt_that_cannot_be_cut_apart_safely_is_malformed(prompt: object):
    found = shaped("rubric_judge", row(judge_prompt=prompt), row())
    assert refusals(found) == [(1, "prompts", "malformed"), (1, "completions", "malformed")]
    assert found.prompts["row"].to_list() == [2]
