from collections.abc import Callable

import pytest

from prefkit.sources.adapters import adapter
from prefkit.sources.rows import SourceRows
from prefkit.sources.shaped import Shaped
from tests.sources.adapters.builders import json_rows, parquet_rows, refusals, shaped, texts


def completion(response: str | None, model: str = "m", **ratings: object) -> dict[str, object]:
    annotations = {aspect: {"Rating": rating, "Rationale": f"why {aspect}"} for aspect, rating in ratings.items()}
    return {"model": model, "response": response, "annotations": annotations}


def said(found: Shaped) -> list[tuple[object, ...]]:
    frame = found.scores.with_columns(slot=found.scores["completion"].struct.field("slot"))
    return texts(frame, "row", "slot", "aspect", "score", "failure")


@pytest.mark.parametrize("rows", [json_rows, parquet_rows])
def test_ultrafeedback_ratings_stay_with_their_completions(rows: Callable[..., SourceRows]):
    found = adapter("ultrafeedback")(
        rows(
            {
                "instruction": "Say hi",
                "source": "sharegpt",
                "completions": [
                    completion("A", "one", helpfulness="4", honesty="N/A"),
                    completion("B", "two", helpfulness=None, honesty="2"),
                    completion("C", "three", helpfulness=" 1 ", honesty="5"),
                ],
            },
            {
                "instruction": "Say bye",
                "source": "flan",
                "completions": [completion("D", honesty="3", helpfulness="3")],
            },
        )
    )
    assert texts(found.completions, "row", "slot", "model", "text") == [
        (1, "0", "one", "A"),
        (1, "1", "two", "B"),
        (1, "2", "three", "C"),
        (2, "0", "m", "D"),
    ]
    assert sorted(said(found)) == [
        (1, "0", "helpfulness", 4.0, None),
        (1, "0", "honesty", None, "unparsable"),
        (1, "1", "honesty", 2.0, None),
        (1, "2", "helpfulness", 1.0, None),
        (1, "2", "honesty", 5.0, None),
        (2, "0", "helpfulness", 3.0, None),
        (2, "0", "honesty", 3.0, None),
    ]
    assert refusals(found) == [(1, "scores", "unrated")]
    assert found.prompts["source"].to_list() == ["sharegpt", "flan"]


def test_ultrafeedback_blank_lines_and_missing_aspects_shift_no_label():
    said_of_it = {"Rating": "5", "Rationale": "Good.\n\nRating: 1\n\nStill good."}
    first = completion("A") | {"annotations": {"helpfulness": said_of_it}}
    bare = {"model": "m", "response": "B"}
    found = shaped(
        "ultrafeedback", {"instruction": "q", "completions": [first, bare, completion("C", helpfulness="2")]}
    )
    assert said(found) == [(1, "0", "helpfulness", 5.0, None), (1, "2", "helpfulness", 2.0, None)]
    assert found.scores["rationale"][0] == "Good.\n\nRating: 1\n\nStill good."


def test_ultrafeedback_whole_scores_are_aspects_of_their_own():
    whole = completion("A") | {"overall_score": 7.5, "critique": "Nice.", "fine-grained_score": 4.25}
    none = completion("B") | {"overall_score": None}
    found = shaped("ultrafeedback", {"instruction": "q", "completions": [none, whole]})
    assert said(found) == [(1, "1", "overall", 7.5, None), (1, "1", "fine_grained", 4.25, None)]
    assert found.scores["rationale"].to_list() == ["Nice.", None]
    assert refusals(found) == [(1, "scores", "unrated"), (1, "scores", "unrated")]


def test_ultrafeedback_cells_of_a_wrong_type_cost_only_themselves():
    good = completion("C", helpfulness="3")
    odd = completion("D") | {"annotations": {"helpfulness": "4", "honesty": None}}
    found = shaped(
        "ultrafeedback",
        {"instruction": "q", "completions": ["A", {"model": ["m"], "response": "B"}, good, odd]},
        {"instruction": "q", "completions": None},
        {"instruction": "q", "completions": [good | {"annotations": "high"}]},
    )
    assert texts(found.completions, "row", "slot", "text") == [(1, "2", "C"), (1, "3", "D"), (3, "0", "C")]
    assert said(found) == [(1, "2", "helpfulness", 3.0, None)]
    assert refusals(found) == [
        (1, "completions", "malformed"),
        (1, "completions", "malformed"),
        (1, "scores", "malformed"),
        (1, "scores", "unrated"),
        (2, "completions", "malformed"),
        (3, "scores", "malformed"),
    ]
