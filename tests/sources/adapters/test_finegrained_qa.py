from prefkit.sources.adapters import adapter
from prefkit.sources.shaped import Shaped
from tests.sources.adapters.builders import parquet_rows, refusals, shaped, texts


def row(**changes: object) -> dict[str, object]:
    return {"question": "q", "predictions": ["A", "B", "C"], "preference": [1, 0, 2], **changes}


def choices(found: Shaped) -> list[tuple[object, ...]]:
    frame = found.comparisons.with_columns(
        first=found.comparisons["a"].struct.field("slot"), second=found.comparisons["b"].struct.field("slot")
    )
    return texts(frame, "row", "first", "second", "preference", "failure")


def test_choices_are_about_the_pairs_in_their_order():
    found = adapter("finegrained_qa")(
        parquet_rows(row(), row(predictions=["A", "B", "C", "D"], preference=[1, 1, 2, 1, 2, 0]))
    )
    assert choices(found) == [
        (1, "0", "1", 1.0, None),
        (1, "0", "2", 0.5, None),
        (1, "1", "2", 0.0, None),
        (2, "0", "1", 1.0, None),
        (2, "0", "2", 1.0, None),
        (2, "0", "3", 0.0, None),
        (2, "1", "2", 1.0, None),
        (2, "1", "3", 0.0, None),
        (2, "2", "3", 0.5, None),
    ]
    assert texts(found.completions, "row", "slot", "text")[:3] == [(1, "0", "A"), (1, "1", "B"), (1, "2", "C")]


def test_choices_of_another_number_than_pairs_label_nothing():
    found = shaped("finegrained_qa", row(preference=[1, 2]), row(preference=[1, 2, 0, 1]), row(preference="1"), row())
    assert refusals(found) == [(n, "comparisons", "malformed") for n in (1, 2, 3)]
    assert found.refused["detail"][0] == "2 choices, expected 3 for 3 predictions"
    assert {chosen[0] for chosen in choices(found)} == {4}


def test_null_choice_is_unrated_and_a_strange_one_a_failure():
    found = shaped("finegrained_qa", row(preference=[None, 3, "B"]))
    assert choices(found) == [(1, "0", "2", None, "unparsable"), (1, "1", "2", None, "unparsable")]
    assert refusals(found) == [(1, "comparisons", "unrated")]


def test_passages_stand_below_the_question():
    passages = [["Moon", "It orbits.", "It shines."], ["Sun", "It burns."]]
    found = shaped("finegrained_qa", row(passages=passages, gold="g"), row(passages=[["Moon"], 3]), row(passages=None))
    assert texts(found.prompts, "row", "text", "answer") == [
        (1, "q\n\nMoon\nIt orbits. It shines.\n\nSun\nIt burns.", "g"),
        (3, "q", None),
    ]
    assert refusals(found) == [(2, "prompts", "malformed")]
