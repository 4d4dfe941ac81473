from tests.sources.adapters.builders import refusals, shaped, texts


def row(**changes: object) -> dict[str, object]:
    return {"instruction": "q", "generations": ["A", "B"], "ratings": [5, 2], "rationales": ["x", "y"], **changes}


def test_lists_of_equal_length_are_joined_by_place():
    found = shaped("ultrafeedback_lists", row(generation_models=["one", "two"], ratings=[None, 2.5]))
    assert texts(found.completions, "slot", "model", "text") == [("0", "one", "A"), ("1", "two", "B")]
    frame = found.scores.with_columns(slot=found.scores["completion"].struct.field("slot"))
    assert texts(frame, "slot", "score", "rationale", "prompt") == [("1", 2.5, "y", "1")]
    assert refusals(found) == [(1, "scores", "unrated")]


def test_ratings_shorter_than_generations_label_nothing():
    found = shaped("ultrafeedback_lists", row(ratings=[5]), row(), row(rationales=["x", None, "y"]), row(ratings="5"))
    assert refusals(found) == [(1, "scores", "malformed"), (3, "scores", "malformed"), (4, "scores", "malformed")]
    assert found.refused["detail"].to_list() == [
        "1 ratings for the generations, expected 2",
        "3 rationales for the generations, expected 2",
        "ratings is of kind string, expected list",
    ]
    assert texts(found.scores, "row", "score") == [(2, 5.0), (2, 2.0)]
    assert len(found.completions) == 8


def test_models_of_another_number_make_the_rows_completions_malformed():
    found = shaped("ultrafeedback_lists", row(generation_models=["one"]), row(generation_models=["one", "two"]))
    assert refusals(found) == [(1, "completions", "malformed")]
    assert found.completions["row"].to_list() == [2, 2]


def test_missing_generation_keeps_its_place():
    found = shaped("ultrafeedback_lists", row(generations=[None, "B"]))
    assert texts(found.completions, "slot", "kind", "text") == [("0", None, None), ("1", "string", "B")]
    assert found.scores["score"].to_list() == [5.0, 2.0]
