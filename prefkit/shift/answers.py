r"""What a text answers in the end, so that two texts that say the same in other words can be matched.

An answer is what the text itself marks as one: the last `\boxed{...}`, else what follows the last `####`, else what
follows the last "answer is" or "answer:" up to the end of the sentence, of 100 characters at most. A text that marks
none is its own answer. Case, white space, markup (`$`, `*`, `_` and backticks), separators of thousands and a closing
full stop do not count.
"""

import polars as pl

_TEXT = pl.col("text")
_ANSWER = pl.coalesce(
    _TEXT.str.extract(r"(?s).*\\boxed\{([^{}]+)\}"),
    _TEXT.str.extract(r"(?s).*####[ \t]*([^\n]+)"),
    _TEXT.str.extract(r"(?is).*\banswer(?:\s+is:?|:)\s+([^\n]{1,100}?)(?:[.!]?\s*\z|[.!]\s|\n)"),
    _TEXT,
)


def final_answers(texts: pl.Series) -> pl.Series:
    """The answer of each text, in the form that equal answers share. Null stays null."""
    plain = _ANSWER.str.to_lowercase().str.replace_all(r"[$*_`]", "")
    for _ in range(2):  # a match takes the digit before the next separator, which the second pass finds again
        plain = plain.str.replace_all(r"(\d),(\d{3})\b", "${1}${2}")
    folded = plain.str.replace_all(r"\s+", " ").str.strip_chars(" ").str.strip_suffix(".")
    return pl.DataFrame({"text": texts}).select(answer=folded).to_series()
