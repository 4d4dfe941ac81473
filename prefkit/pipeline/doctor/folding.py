"""Texts without what does not change their meaning: case, spacing, punctuation at the end of words.

Signs that mean something stay: operators, brackets, decimal points. So `What is 3 * 4 - 1?` and `What is 3 - 4 * 1?`
remain two texts.
"""

import polars as pl

_STRAIGHT = {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "-", "\u2212": "-"}


def folded(texts: pl.Series) -> pl.Series:
    """The texts in lower case, with straight quotes, without punctuation at the end of words, with single spaces."""
    lower = texts.str.to_lowercase().str.replace_many(list(_STRAIGHT), list(_STRAIGHT.values()))
    bare = lower.str.replace_all('"', "", literal=True).str.replace_all(r"[.,;:!?\x{2026}]+(\s|$)", " ")
    return bare.str.replace_all(r"\s+", " ").str.strip_chars()
