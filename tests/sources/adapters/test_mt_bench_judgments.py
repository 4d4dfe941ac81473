import pytest

from tests.sources.adapters.builders import messages, refusals, shaped, spelled, texts

FIRST = (
    "[Instruction]\nJudge it.\n\n[Question]\n{question}\n\n{reference}"
    "[The Start of Assistant's Answer]\n{answer}\n[The End of Assistant's Answer]"
)
REFERENCE = "[The Start of Reference Answer]\nFour.\n[The End of Reference Answer]\n\n"
START, END = (
    "<|The Start of Assistant A's Conversation with User|>",
    "<|The End of Assistant A's Conversation with User|>",
)


def first_turn(answer: str = "4", reference: str = "") -> str:
    return FIRST.format(question="2+2?\nQuick!", answer=answer, reference=reference)


def second_turn(last: str = "5") -> str:
    turns = "\n\n".join(
        f"### {speaker}:\n{text}"
        for speaker, text in zip(["User", "Assistant A"] * 2, ["2+2?", "4\n\nSure.", "+1?", last], strict=True)
    )
    reference = "<|The Start of Reference Answer|>\n\n### User:\n2+2?\n\n<|The End of Reference Answer|>\n\n\n"
    return f"{reference}{START}\n\n{turns}\n\n{END}"


def row(prompt: object = None, judgment: object = "Fine. Rating: [[8.5]]", **changes: object) -> dict[str, object]:
    return {"judge_prompt": prompt or first_turn(), "judgment": judgment, "model": "m", "judge": "gpt-4", **changes}


@pytest.mark.parametrize("reference", ["", REFERENCE])
def test_first_turn_is_a_question_and_its_answer(reference: str):
    found = shaped("mt_bench_judgments", row(first_turn("It is\n\n4.", reference)))
    assert texts(found.prompts, "kind", "text") == [("string", "2+2?\nQuick!")]
    assert texts(found.completions, "model", "kind", "text") == [("m", "string", "It is\n\n4.")]
    assert texts(found.scores, "scorer", "score", "rationale") == [("gpt-4", 8.5, "Fine. Rating: [[8.5]]")]


def test_second_turn_is_answered_after_the_first_answer():
    found = shaped("mt_bench_judgments", row(second_turn()))
    assert texts(found.prompts, "kind", "text") == [("list", spelled(messages("2+2?", "4\n\nSure.", "+1?")))]
    assert found.completions["text"].to_list() == ["5"]


@pytest.mark.parametrize("judgment", ["No idea.", "[[8]] or [[9]]", "[[11]]", "Rating: 8", "[[-1]]", ""])
def test_judgment_without_one_rating_on_the_scale_is_unparsable(judgment: str):
    found = shaped("mt_bench_judgments", row(judgment=judgment), row(judgment="[[7]], as I said: [[7]]"))
    assert texts(found.scores, "score", "failure", "raw") == [
        (None, "unparsable", judgment),
        (7.0, None, "[[7]], as I said: [[7]]"),
    ]


def test_original_files_name_the_judge_in_a_list_and_the_prompt_otherwise():
    original = {"user_prompt": first_turn(), "judgment": "[[3]]", "model": "m", "judge": ["gpt-4", "single-v1"]}
    found = shaped("mt_bench_judgments", original, original | {"judgment": None}, original | {"judge": []})
    assert texts(found.scores, "scorer", "score") == [("gpt-4", 3.0)]
    assert refusals(found) == [(2, "scores", "unrated"), (3, "scores", "malformed")]


@pytest.mark.parametrize(
    "prompt",
    [
        "Judge it.",
        first_turn("[The Start of Assistant's Answer]\n5") + "\n\n[The Start of Assistant's Answer]\n",
        second_turn("5\n\n### User:\nand now?"),
        second_turn(f"5\n\n{END}"),
        7,
    ],
)
def test_prompt_whose_marks_are_not_the_templates_is_malformed(prompt: object):
    found = shaped("mt_bench_judgments", row(prompt), row())
    assert refusals(found) == [(1, what, "malformed") for what in ("prompts", "completions", "scores")]
    assert found.scores["row"].to_list() == [2]
