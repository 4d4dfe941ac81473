import pytest

from tests.sources.adapters.builders import refusals, shaped, texts


def annotation(**changes: object) -> dict[str, object]:
    return {
        "instruction": "Say hi",
        "output_1": "Hi",
        "generator_1": "baseline",
        "output_2": "Hello",
        "generator_2": "model",
        "annotator": "judge",
        "preference": 1.0,
        **changes,
    }


@pytest.mark.parametrize(
    ("preference", "expected"),
    [(1.0, 1.0), (2, 0.0), (1.25, 0.75), (1.5, 0.5), (0, 0.5), (0.0, 0.5), ("1.0", 1.0)],
)
def test_alpaca_eval_preference_is_for_the_first_output(preference: object, expected: float):
    found = shaped("alpaca_eval_annotations", annotation(preference=preference))
    (comparison,) = found.comparisons.rows(named=True)
    assert comparison["preference"] == pytest.approx(expected)
    assert (comparison["a"]["slot"], comparison["b"]["slot"], comparison["order"]) == ("a", "b", "unknown")
    assert texts(found.completions, "slot", "model", "text") == [("a", "baseline", "Hi"), ("b", "model", "Hello")]


@pytest.mark.parametrize("preference", [None, 3.0, 0.5, -1, "garbage", True, [1.0]])
def test_alpaca_eval_preference_that_is_none_is_a_failure_never_a_tie(preference: object):
    found = shaped("alpaca_eval_annotations", annotation(preference=preference), annotation())
    assert texts(found.comparisons, "preference", "failure") == [(None, "unparsable"), (1.0, None)]
    assert found.refused.is_empty()


def test_alpaca_eval_annotation_keeps_the_judges_explanation():
    reply = {"concise_explanation": "Warmer.", "ordered_models": [{"model": "m", "rank": 1}]}
    found = shaped("alpaca_eval_annotations", annotation(raw_completion=reply), annotation(raw_completion="m"))
    assert found.comparisons["rationale"].to_list() == ["Warmer.", None]


def test_alpaca_eval_annotation_with_a_bad_name_is_refused_and_its_siblings_stay():
    found = shaped(
        "alpaca_eval_annotations",
        annotation(generator_1=["x"]),
        annotation(annotator=None),
        annotation(dataset={"a": 1}),
    )
    assert refusals(found) == [
        (1, "prompts", "malformed"),
        (1, "completions", "malformed"),
        (1, "completions", "malformed"),
        (1, "comparisons", "malformed"),
        (2, "comparisons", "malformed"),
        (3, "prompts", "malformed"),
    ]
    assert (found.prompts["row"].to_list(), found.comparisons["row"].to_list()) == ([2], [3])


def test_alpaca_eval_outputs_are_one_completion_a_row():
    found = shaped(
        "alpaca_eval_outputs",
        {"instruction": "Say hi", "output": " Hi\n", "generator": "m", "dataset": "koala"},
        {"instruction": "Say hi", "output": None, "generator": "m", "dataset": None},
    )
    assert texts(found.prompts, "key", "text", "source") == [("1", "Say hi", "koala"), ("2", "Say hi", None)]
    assert texts(found.completions, "prompt", "model", "kind", "text") == [
        ("1", "m", "string", " Hi\n"),
        ("2", "m", None, None),
    ]
