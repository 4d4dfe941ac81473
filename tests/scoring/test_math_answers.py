import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from math_verify import parse, verify

from prefkit.scoring.math_answers import decide, final_gold, gold_source

logging.getLogger("math_verify").setLevel(logging.ERROR)

NUMBERS = st.one_of(
    st.sampled_from(
        ["0", "-5", "18", "1,234", "-1,234", "12,345,678", "0.5", "-0.5", "7.50", "007", "-0", ".5", "1e5"]
    ),
    st.integers(-50, 50).map(str),
    st.decimals(-1000, 1000, places=2).map(str),
)
LATEX = st.sampled_from(
    ["5.", r"\frac{1}{2}", r"3\sqrt{2}", "x=5", "(1,2)", "[0,1)", r"\{1,2\}", "1,2,3", r"10^\circ", r"5\%", "1 or 2"]
)  # fmt: skip
NOISE = st.lists(
    st.sampled_from(
        ["So ", "answer ", "Answer: ", "The final answer is ", "= ", "A: ", "\n", "+ ", "- ", "/", "(", ")", r"\( ",
         r"\)", r"\[", r"\]", "$", "$$", r"\$", "$5 ", "5$", "$x = 3$ ", r"\boxed{3} ", r"\boxed{", "}", "% ",
         "percent ", "I hope", "**", "3 ", "1,234 ", "3/4 ", "\\", "i", "٣", "and ", ", or ", ". "]
    ),
    max_size=5,
).map("".join)  # fmt: skip
AFTER = st.sampled_from(
    ["", ".", " dollars.", "\n", " percent", "%", " and so", "'s", " .", "th floor.", " = 3", " pct"]
)
NUMBER_LAST = st.builds(
    "{}{}".format,
    st.sampled_from(["The answer is ", "answer is: $", "A: ", "#### ", "= ", "costs $", "answer is\n"]),
    NUMBERS,
)
BOXED = st.builds(
    lambda form, content: form.replace("@", rf"\boxed{{{content}}}"),
    st.sampled_from(
        ["@", "So $@$", r"So \(@\)", r"\[@\]", "$$@$$", "$x = @$", "5$@$", "$3$ and $@$", r"\( a \) \(@\)"]
    ),
    st.one_of(NUMBERS, LATEX),
)
TEXTS = st.builds("{}{}{}".format, NOISE, st.one_of(NUMBER_LAST, BOXED), AFTER)


def full_judgement(gold: str, text: str) -> bool:
    read_gold = parse(gold_source(gold), parsing_timeout=None)
    return verify(read_gold, parse(text, parsing_timeout=None), timeout_seconds=None)


@settings(max_examples=600)
@given(text=TEXTS, other=st.one_of(NUMBERS, LATEX), gold_is_in_text=st.booleans())
def test_short_cut_where_it_speaks_agrees_with_the_full_judgement(text: str, other: str, gold_is_in_text: bool) -> None:
    gold = final_gold(text.split("{")[-1].split("}")[0].split(" ")[-1].rstrip(".") if gold_is_in_text else other)
    decision = decide(gold, text)
    if decision is not None:
        assert decision.correct == full_judgement(gold, text)


@pytest.mark.parametrize(
    ("gold", "text", "correct"),
    [
        ("18", "16 - 3 - 4 = 9, and 9 * 2 = 18. The answer is 18.", True),
        ("18", "The answer is 17.", False),
        ("1,234", "A: 1234", True),
        ("72", "Thus she sold $\\boxed{72}$ clips in total.", True),
        ("72", "Thus she sold \\(\\boxed{73}\\) clips.", False),
        ("\\frac{1}{2}", "That is $\\boxed{\\frac{1}{2}}$.", True),
        ("2.50", "It costs $2.5", True),
    ],
)
def test_short_cut_decides_plain_endings(gold: str, text: str, correct: bool) -> None:
    decision = decide(gold, text)
    assert decision is not None
    assert decision.correct is correct


@pytest.mark.parametrize(
    "text",
    [
        "16 - 18",  # an expression, not its last term
        "The answer is 18%.",
        "The answer is 18 percent.",
        "Answer: 5. We checked it for 18",  # what follows `Answer:` goes before what comes last
        "\\boxed{5} or rather \\boxed{18}",
        "The final answer is 5, as $\\boxed{18}$",
        "x is 1.8e1",
        "",
    ],
)
def test_short_cut_leaves_texts_with_other_readings_alone(text: str) -> None:
    assert decide("18", text) is None


def test_gold_answer_in_gsm8k_form_is_what_follows_the_marks() -> None:
    assert final_gold("48 / 2 = <<48/2=24>>24\n#### 1,072") == "1,072"
