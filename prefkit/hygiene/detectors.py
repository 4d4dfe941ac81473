"""Detectors of defective texts: each answers, for a column of texts, which rows have its defect.

A detector errs on the side of keeping a text: what legitimate writing may contain (an accented capital, struck-through
HTML, a single unusual symbol) passes. Costly patterns are looked for only where a cheap scan raises a suspicion, so a
clean text costs a few passes over its bytes.
"""

import numpy as np
import polars as pl

from prefkit.sampling.protocol import FinishReason

_INVISIBLE = r"\p{White_Space}\p{Default_Ignorable_Code_Point}\p{Z}\p{Cc}\p{Cf}\x{2800}"
_VISIBLE = f"[^{_INVISIBLE}]"

# What the bytes 0x80 to 0xBF of UTF-8 turn into when they are read as Windows-1252 or Latin-1.
_SYMBOLS = "€‚ƒ„†‡ˆ‰Š‹ŒŽ˜™š›œžŸ¡¢£¤¥¦§¨©ª«¬®¯°±²³´µ¶·¸¹º»¼½¾¿\x80-\x9f"
_PUNCTUATION = "‘’“”•–—…\xa0\xad"
_TRAIL = f"[{_SYMBOLS}{_PUNCTUATION}]"
# After a capital that ends a word these are as likely to be genuine ("AMANHÃ”", the operator Â²): see `mojibake`.
_GENUINE = f"{_PUNCTUATION}†»›²³¹·"
_SURE = "€‚ƒ„‡ˆ‰Š‹ŒŽ˜™š›œžŸ¡¢£¤¥¦§¨©ª«¬®¯°±´µ¶¸º¼½¾¿"

_MOJIBAKE = "|".join(
    [
        "\ufffd",
        f"[ÂÃ][{_SURE}]",  # Ã© for é, Â° for °
        rf"(?:^|[\p{{Ll}}\p{{Nd}}\s])Ã[{_GENUINE}]",  # Ã and a no-break space for à
        rf"[\p{{Ll}}\p{{Nd}}.,;:!?)%]Â[{_GENUINE}\s]",  # Â and a no-break space for a no-break space
        r"[Â-ð][\x80-\x9f]",  # an accented letter and a control character
        "â€|ðŸ|ï»¿|ï¿½",  # punctuation, emoji, byte order mark, U+FFFD
        f"â{_TRAIL}{{2}}",  # arrows, mathematical signs, ™
        f"(?:[Ä-ß]{_TRAIL}){{3}}",  # Greek, Cyrillic, Hebrew, Arabic
        f"(?:[à-ï]{_TRAIL}{{2}}){{2}}",  # Indic, Chinese, Japanese, Korean
    ]
)
_TEXT = pl.col("text")

_TOKEN_LITERALS = [
    "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>",
    "<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>", "<unk>", "<pad>",
]  # fmt: skip
_TOKEN_PATTERN = r"<\|[A-Za-z][A-Za-z0-9_]*\|>|<｜[^<>｜\s]{1,60}｜>"
_TOKEN_LEADS = ["<|", "<｜", "<s>", "</s>", *_TOKEN_LITERALS]


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
        | _TEXT.str.contains(_TOKEN_PATTERN)
        | _TEXT.str.contains(r"^\s*<s>")
        | (closed.is_not_null() & (opened.is_null() | (closed < opened)))
    )
    return _confirmed(texts, texts.str.contains_any(_TOKEN_LEADS), found)


def truncated(finish_reasons: pl.Series) -> pl.Series:
    """The sampler ran into its token limit. An unknown reason (null) is not."""
    return (finish_reasons == FinishReason.LENGTH).fill_null(False)


def duplicate(prompts: pl.Series, texts: pl.Series) -> pl.Series:
    """An earlier row of the same prompt has the same text, character for character."""
    # Hashes find the few rows that could repeat another; only these are compared as texts.
    suspected = (texts.hash() ^ prompts.hash()).is_duplicated()
    rows = pl.DataFrame({"prompt": prompts, "text": texts}).with_row_index().filter(suspected)
    repeated = rows.filter(~pl.struct("prompt", "text").is_first_distinct())["index"]
    return _at(repeated, len(texts))


def _confirmed(texts: pl.Series, suspected: pl.Series, found: pl.Expr) -> pl.Series:
    """`found`, an expression over `text`, evaluated only where suspected; false elsewhere."""
    rows = pl.DataFrame({"text": texts}).with_row_index().filter(suspected)
    return _at(rows.filter(found)["index"], len(texts))


def _at(rows: pl.Series, length: int) -> pl.Series:
    mask = np.zeros(length, np.bool_)
    mask[rows.to_numpy()] = True
    return pl.Series(mask)
