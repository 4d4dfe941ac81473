import pytest

from tests.sources.adapters.builders import refusals, shaped, texts


def error(severity: str | None, category: str = "Accuracy/Mistranslation", **changes: object) -> dict[str, object]:
    return {
        "system": "s1",
        "doc": "d",
        "doc_seg_id": "1",
        "source": "Hello",
        "target": "Hallo",
        "rater": "r1",
        "category": category,
        "severity": severity,
        **changes,
    }


def test_mqm_score_is_minus_the_sum_of_the_raters_weights():
    found = shaped(
        "mqm",
        error("Minor"),
        error("Major"),
        error("Minor", "Fluency/Punctuation"),
        error("Major", "Fluency/Punctuation"),
        error("No-error", "No-error", rater="r2"),
        error("Major", "Non-translation!", rater="r3"),
        error("Neutral", rater="r4"),
    )
    assert texts(found.scores, "row", "scorer", "aspect", "score") == [
        (1, "r1", "mqm", -11.1),
        (5, "r2", "mqm", 0.0),
        (6, "r3", "mqm", -25.0),
        (7, "r4", "mqm", 0.0),
    ]
    assert found.scores["rationale"][0].startswith("Minor Accuracy/Mistranslation; Major Accuracy/")
    assert (len(found.prompts), len(found.completions)) == (1, 1)


def test_mqm_planted_error_is_unrated_and_the_raters_other_errors_stay():
    found = shaped(
        "mqm",
        error("HOTW-test", "Found"),
        error("Minor"),
        error("HOTW-test", "Missed", rater="r2"),
        error("No-error", "No-error", rater="r2"),
    )
    assert texts(found.scores, "scorer", "score") == [("r1", -1.0), ("r2", 0.0)]
    assert refusals(found) == [(1, "scores", "unrated"), (3, "scores", "unrated")]


def test_mqm_unknown_severity_fails_the_whole_rating_not_its_part():
    found = shaped("mqm", error("Minor"), error("Critical"), error("Minor", rater="r2"))
    assert texts(found.scores, "scorer", "score", "failure") == [("r1", None, "unparsable"), ("r2", -1.0, None)]


def test_mqm_error_marks_make_no_new_translation():
    found = shaped(
        "mqm", error("Minor", target="<v>Hal</v>lo", source="<v>Hello</v>"), error("Major", target="Ha<v>llo</v>")
    )
    assert found.completions["text"].to_list() == ["Hallo"]
    assert found.prompts["text"].to_list() == ["Hello"]
    assert found.scores["score"].to_list() == [-6.0]


def test_mqm_equal_segments_of_two_documents_stay_apart():
    found = shaped("mqm", error("Minor"), error("Major", doc="e"))
    keys = found.completions["key"].to_list()
    assert len(set(keys)) == 2
    assert found.scores["completion"].struct.field("key").to_list() == keys
    assert found.scores["score"].to_list() == [-1.0, -5.0]


@pytest.mark.parametrize("column", ["system", "doc", "doc_seg_id", "source", "target", "rater", "severity"])
def test_mqm_row_without_a_part_is_malformed(column: str):
    found = shaped("mqm", error("Minor") | {column: None}, error("Minor", rater="r2"))
    assert refusals(found) == [(1, "scores", "malformed")]
    assert found.scores["scorer"].to_list() == ["r2"]
