# ruff: noqa: RUF001  (ambiguous characters are the subject)
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from prefkit.hygiene.config import HygieneConfig
from prefkit.hygiene.outcomes import completion_outcomes, pair_outcomes, prompt_outcomes

ON = HygieneConfig()
OFF = HygieneConfig(empty=False, duplicates="off", mojibake=False, leaked_tokens=False, truncated=False, constant=None)


def completions(*rows: tuple[int, str | None, str | None]) -> pl.DataFrame:
    schema = {"prompt": pl.UInt32, "text": pl.String, "finish_reason": pl.String}
    return pl.DataFrame(list(rows), schema, orient="row")


def test_completions_end_in_the_name_of_their_defect() -> None:
    frame = completions(
        (0, "fine", "stop"), (0, " ", "stop"), (0, "cut", "length"), (0, "bye</s>", "stop"), (0, "cafÃ©", None),
        (0, "fine", "stop"), (1, "fine", None),
    )  # fmt: skip
    assert completion_outcomes(frame, ON).to_list() == [
        None, "empty", "truncated", "leaked_tokens", "mojibake", "duplicate", None,
    ]  # fmt: skip


def test_first_defect_in_the_fixed_order_names_the_outcome() -> None:
    frame = completions(
        (0, "", "length"), (0, "cafÃ©</s>", "length"), (0, "cafÃ©</s>", "stop"), (0, "cut in a \ufffd", "length")
    )
    assert completion_outcomes(frame, ON).to_list() == ["empty", "truncated", "leaked_tokens", "truncated"]


def test_copy_of_a_dropped_completion_is_not_a_duplicate() -> None:
    frame = completions((0, "same", "length"), (0, "same", "stop"), (0, "same", "stop"))
    assert completion_outcomes(frame, ON).to_list() == ["truncated", None, "duplicate"]


def test_text_that_answers_many_prompts_is_constant_and_comes_before_duplicates() -> None:
    canned, short = "I am the best answer to whatever you ask. " * 3, "42"
    rows = [(prompt, text, None) for prompt in range(4) for text in (canned, canned, short)]
    config = HygieneConfig(constant=4)
    assert completion_outcomes(completions(*rows), config).to_list() == ["constant", "constant", None] * 4
    assert completion_outcomes(completions(*rows[:9]), config).to_list() == [None, "duplicate", None] * 3


def test_detectors_that_are_off_find_nothing() -> None:
    frame = completions((0, "", "length"), (0, "", "stop"), (0, "cafÃ©</s>", "stop"))
    assert completion_outcomes(frame, OFF).null_count() == 3
    assert prompt_outcomes(frame, OFF).null_count() == 3


def test_prompts_are_checked_for_emptiness_and_mojibake_alone() -> None:
    texts = pl.DataFrame({"text": ["What is <s>?</s>", "\u200b", "cafÃ©", "What is <s>?</s>", "[INST]"]})
    assert prompt_outcomes(texts, ON).to_list() == [None, "empty", "mojibake", None, None]


def test_pairs_are_equal_when_only_space_around_them_differs() -> None:
    chosen = pl.Series(["a", " a\n", "a b", "A", ""])
    rejected = pl.Series(["a", "\ta", "a  b", "a", " "])
    found = "chosen_equals_rejected"
    assert pair_outcomes(chosen, rejected).to_list() == [found, found, None, None, found]


def test_no_rows_give_no_outcomes() -> None:
    assert completion_outcomes(completions(), ON).len() == 0
    assert prompt_outcomes(completions(), ON).len() == 0
    assert pair_outcomes(pl.Series([], dtype=pl.String), pl.Series([], dtype=pl.String)).len() == 0


# Any text that UTF-8 can carry, with a bias to the characters the detectors look for.
TEXTS = st.one_of(
    st.none(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.text(st.sampled_from("ÃÂâ€™©\xa0\x80ðŸ\ufffd<|s/>[]INST｜ a\n\u200b"), max_size=12),
)
REASONS = st.sampled_from([None, "stop", "length"])


@given(rows=st.lists(st.tuples(st.integers(0, 2), TEXTS, REASONS), max_size=12))
def test_kept_completions_are_sound_and_no_prompt_keeps_a_text_twice(
    rows: list[tuple[int, str | None, str | None]],
) -> None:
    frame = completions(*rows)
    outcomes = completion_outcomes(frame, ON)
    assert outcomes.len() == frame.height
    kept = frame.filter(outcomes.is_null())
    assert kept.select("prompt", "text").is_unique().all()
    assert completion_outcomes(kept, ON).null_count() == kept.height
    # Every dropped duplicate repeats a completion that is kept.
    copies = frame.filter(outcomes == "duplicate")
    assert copies.join(kept, on=["prompt", "text"], how="semi").height == copies.height


@given(rows=st.lists(st.tuples(st.integers(0, 2), TEXTS, REASONS), max_size=8))
def test_text_detectors_decide_each_row_on_its_own(rows: list[tuple[int, str | None, str | None]]) -> None:
    frame = completions(*rows)
    config = HygieneConfig(duplicates="off")
    alone = [completion_outcomes(frame[row : row + 1], config).item() for row in range(frame.height)]
    assert completion_outcomes(frame, config).to_list() == alone
