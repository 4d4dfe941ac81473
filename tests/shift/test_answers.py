import polars as pl
import pytest

from prefkit.shift.answers import final_answers


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("17 + 25 = 42. So the answer is 42.", "42"),
        ("The answer is 1,234,567. I hope that helps!", "1234567"),
        ("Not \\boxed{3}. Rather \\boxed{ 4 }: the answer is 5.", "4"),
        ("First 3 * 4.\n#### 12\n", "12"),
        ("Answer: **Paris**", "paris"),
        ("The answer is 1. No, wait: the answer is 2.", "2"),
        ("The answer is 3.5 apples.\nBecause of that.", "3.5 apples"),
        ("I  know nothing\nabout this.", "i know nothing about this"),
        ("The answer to this is long", "the answer to this is long"),
    ],
)
def test_final_answer_is_what_the_text_marks_as_one(text: str, answer: str) -> None:
    assert final_answers(pl.Series([text])).to_list() == [answer]


def test_final_answers_keep_order_and_nulls() -> None:
    assert final_answers(pl.Series(["The answer is 1.", None, "2"])).to_list() == ["1", None, "2"]
