"""Detectors of defective texts: each answers, for a column of texts, which rows have its defect.

A detector errs on the side of keeping a text: what legitimate writing may contain (an accented capital, struck-through
HTML, a single unusual symbol) passes. Costly patterns are looked for only where a cheap scan raises a suspicion, so a
clean text costs a few passes over its bytes.
"""

import re

import numpy as np
import polars as pl

_INVISIBLE = r"\p{White_Space}\p{Default_Ignorable_Code_Point}\p{Z}\p{Cc}\p{Cf}\x{2800}"
_VISIBLE = f"[^{_INVISIBLE}]"


def _one_of(characters: set[str]) -> str:
    return f"[{re.escape(''.join(sorted(characters)))}]"


# What the bytes 0x80 to 0xBF, which continue a character in UTF-8, are in Latin-1 and in Windows-1252.
_READINGS = {bytes([byte]).decode(wrong, "ignore") for byte in range(0x80, 0xC0) for wrong in ("latin-1", "cp1252")}
_CONTINUED = _one_of(_READINGS - {""})
# Of these, what may follow a genuine capital: quotation marks, dashes, ellipsis, bullet, no-break space, soft hyphen,
# and in formulas dagger and superscripts.
_GENUINE = _one_of(set("\u2018\u2019\u201c\u201d\u2022\u2013\u2014\u2026\xa0\xad†»\u203a²³¹·"))

_MOJIBAKE = "|".join(
    [
        "\ufffd",
        f"[ÂÃ][{_CONTINUED}--{_GENUINE}]",  # Ã© for é, Â° for °
        rf"(?:^|[\p{{Ll}}\p{{Nd}}\s])Ã{_GENUINE}",  # Ã and a no-break space for à
        rf"\p{{Ll}}Å{_GENUINE}",  # the ligature oe
        rf"[\p{{Ll}}\p{{Nd}}.,;:!?)%]Â[{_GENUINE}\s]",  # Â and a no-break space for a no-break space
        r"[Â-ð][\x80-\x9f]",  # an accented letter and a control character
        "â€|ðŸ|ï»¿|ï¿½",  # punctuation, emoji, byte order mark, U+FFFD
        f"â{_CONTINUED}{{2}}",  # arrows, mathematical signs, ™
        f"(?:[Ä-ß]{_CONTINUED}){{3}}",  # Greek, Cyrillic, Hebrew, Arabic
        f"(?:[à-ï]{_CONTINUED}{{2}}){{2}}",  # Indic, Chinese, Japanese, Korean
    ]
)
_TEXT = pl.col("text")
_LONG = 100

_TOKEN_LITERALS = [
    "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>",
    "<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>", "<unk>", "<pad>",
]  # fmt: skip
_NAMED_CONTROL = r"<\|[A-Za-z][A-Za-z0-9_]*\|>|<\x{ff5c}[^<>\s]{1,60}\x{ff5c}>"
_TOKEN_LEADS = ["<|", "<\uff5c", "<s>", "</s>", *_TOKEN_LITERALS]


def empty(texts: pl.Series) -> pl.Series:
    """No visible character: white space, zero-width, control and format characters do not count. Null is empty."""
    return ~texts.str.contains(_VISIBLE).fill_null(False)


def mojibake(texts: pl.Series) -> pl.Series:
    """Traces of UTF-8 that was read as Windows-1252 or Latin-1, or a replacement character (U+FFFD).

    Two-byte traces count when no language writes them: a capital Ã or Â followed by a letter is Portuguese, Romanian
    or Vietnamese, and one followed by a quotation mark or dash may end a word in capitals, so it counts only in the
    middle of a word. Letters that lead other scripts count from two or three traces in a row.
    """
    beyond_ascii = texts.str.len_bytes() != texts.str.len_chars()
    return _confirmed(texts, beyond_ascii, _TEXT.str.contains(_MOJIBAKE))


def leaked_tokens(texts: pl.Series) -> pl.Series:
    """A control token of a chat format: `<|name|>`, `[INST]`, `<start_of_turn>`, `<s>`, `</s>`, ...

    `<s>` and `</s>` are also HTML for struck-through text. `<s>` counts at the start of the text, `</s>` where no
    `<s>` stands before it.
    """
    opened, closed = _TEXT.str.find("<s>", literal=True), _TEXT.str.find("</s>", literal=True)
    found = (
        _TEXT.str.contains_any(_TOKEN_LITERALS)
        | _TEXT.str.contains(_NAMED_CONTROL)
        | _TEXT.str.contains(r"^\s*<s>")
        | (closed.is_not_null() & (opened.is_null() | (closed < opened)))
    )
    return _confirmed(texts, texts.str.contains_any(_TOKEN_LEADS), found)


def truncated(finish_reasons: pl.Series) -> pl.Series:
    """The sampler ran into its token limit. An unknown reason (null) is not."""
    return (finish_reasons == "length").fill_null(False)


def constant(prompts: pl.Series, texts: pl.Series, least: int) -> pl.Series:
    """The text has 100 characters or more and stands under at least so many prompts: it answers none of them.

    Shorter texts may well answer many prompts: numbers, labels, a sentence that declines.
    """
    rows = pl.DataFrame({"prompt": prompts, "text": texts}).with_row_index().filter(_frequent(texts.hash(), least))
    suspected = rows.filter(pl.col("text").str.len_chars() >= _LONG)
    return _at(suspected.filter(pl.col("prompt").n_unique().over("text") >= least)["index"], len(texts))


def duplicate(prompts: pl.Series, texts: pl.Series) -> pl.Series:
    """An earlier row of the same prompt has the same text, character for character."""
    # Hashes find the few rows that could repeat another; only these are compared as texts.
    suspected = _frequent(texts.hash() ^ prompts.hash(), 2)
    rows = pl.DataFrame({"prompt": prompts, "text": texts}).with_row_index().filter(suspected)
    repeated = rows.filter(~pl.struct("prompt", "text").is_first_distinct())["index"]
    return _at(repeated, len(texts))


def _frequent(hashes: pl.Series, least: int) -> pl.Series:
    """Which hashes occur at least so many times, two or more. Sorting integers is faster than counting them."""
    ordered = np.sort(hashes.to_numpy())
    often = ordered[least - 1 :][ordered[least - 1 :] == ordered[: 1 - least]]
    return hashes.is_in(pl.Series(often, dtype=pl.UInt64).implode())


def _confirmed(texts: pl.Series, suspected: pl.Series, found: pl.Expr) -> pl.Series:
    """`found`, an expression over `text`, evaluated only where suspected; false elsewhere."""
    rows = pl.DataFrame({"text": texts}).with_row_index().filter(suspected)
    return _at(rows.filter(found)["index"], len(texts))


def _at(rows: pl.Series, length: int) -> pl.Series:
    mask = np.zeros(length, np.bool_)
    mask[rows.to_numpy()] = True
    return pl.Series(mask)
