# ruff: noqa: RUF001  (ambiguous characters are the subject)
import polars as pl
import pytest

from prefkit.hygiene.detectors import duplicate, empty, leaked_tokens, mojibake, truncated


def flagged(detected: pl.Series, texts: list[str]) -> list[str]:
    return [text for text, found in zip(texts, detected, strict=True) if found]


def test_empty_finds_every_kind_of_invisible_text() -> None:
    texts = [
        "",
        " \t\r\n",
        "\u00a0\u2003\u3000",  # no-break, em and ideographic space
        "\u200b\u200c\u200d\u2060\ufeff",  # zero-width characters and a byte order mark
        "\x00\x07\x1b\x7f\x85",  # control characters
        "\u00ad\u034f\u2800\u3164\ufe0f",  # soft hyphen, joiner, blank braille, filler, variation selector
    ]
    assert flagged(empty(pl.Series(texts)), texts) == texts


def test_empty_keeps_any_visible_character() -> None:
    texts = [".", "\u200b0", " \n é", "日", "👍🏽", "\x00a", "\U000e0041x", "́a"]
    assert flagged(empty(pl.Series(texts)), texts) == []


def test_empty_takes_a_missing_text_for_empty() -> None:
    assert empty(pl.Series([None, "a"], dtype=pl.String)).to_list() == [True, False]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
@pytest.mark.parametrize(
    "text",
    [
        "café", "à la carte", "voilà", "Ça va", "naïve", "cœur", "Größe", "mañana", "NÃO",
        "don’t", "“quoted”", "a – b", "wait…", "a • b", "™", "50 €", "5°", "½", "3×4", "£5",
        "a\u00a0b", "→", "≤", "👍", "привет", "καλημέρα", "שלום", "مرحبا", "日本語", "한국어", "नमस्ते", "\ufeffHello",
    ],
)  # fmt: skip
def test_mojibake_finds_utf8_that_was_read_as(text: str, encoding: str) -> None:
    # As browsers read cp1252: bytes it leaves undefined become control characters.
    wrong = "".join(bytes([byte]).decode(encoding, "ignore") or chr(byte) for byte in text.encode())
    assert wrong != text
    assert mojibake(pl.Series([wrong])).to_list() == [True]


def test_mojibake_finds_text_that_was_encoded_twice() -> None:
    twice = "café".encode().decode("cp1252").encode().decode("cp1252")
    assert mojibake(pl.Series([twice, "bad \ufffd byte"])).all()


def test_mojibake_keeps_genuine_text_of_many_languages() -> None:
    texts = [
        "plain", "château, pâté, maître", "Ça va ? À bientôt !", "« ÂGE »", "L’ÂME DES POÈTES",
        "NÃO É FÁCIL. A MÃE E O IRMÃO", "SÃO PAULO", "LÃ, ALGODÃO; MAÇÃ.", "“AMANHÔ", "AMANHÃ – talvez", "IRMÃ… E IRMû",
        "irmã” – manhã…", "Âu Cơ và Lạc Long Quân", "ÂM NHẠC VIỆT NAM", "România, în câmp", "hâlâ “evet”", "HÂLÂ…",
        "the operator Â² and its adjoint ↠act on", "a Ã b", "Ã", "Â", "the letter “Ô",
        "El Niño – ESPAÑA…", "Ñandú", "Straße", "Ðór og Þór", "smörgåsbord", "ÅNGSTRÖM", "Šibenik, žółć",
        "α, β and γ", "привет «мир»", "日本語。「はい」", "مرحبا", "שלום", "50 € – 60 €", "2 × 3 ± 4°",
        "½ • ¼", "ª º", "👍🏽",
    ]  # fmt: skip
    assert flagged(mojibake(pl.Series(texts)), texts) == []


@pytest.mark.parametrize(
    "text",
    [
        "Done.<|im_end|>", "<|im_start|>assistant\nHi", "x<|endoftext|>y", "<|eot_id|>", "<|start_header_id|>user",
        "<|assistant|>", "<|user|>", "<|reserved_special_token_12|>", "<｜end▁of▁sentence｜>", "<｜Assistant｜>",
        "[INST] hi", "bye [/INST]", "<<SYS>>", "<</SYS>>", "<start_of_turn>model", "ok<end_of_turn>", "<unk>",
        "a<pad><pad>", "<eos>", "<bos>", "<s>Hello", " \n<s> Hello", "Goodbye.</s>", "Goodbye.</s>\n\nQ: next",
        "<s>whole</s>",
    ],
)  # fmt: skip
def test_leaked_tokens_finds(text: str) -> None:
    assert leaked_tokens(pl.Series([text])).to_list() == [True]


def test_leaked_tokens_keeps_code_and_struck_through_html() -> None:
    texts = [
        "Now <s>$20</s> $10", "<p><s>old</s> new</p>", "f <| x |> g", "<|>", "a <| b", "[INSTALL]", "<pads>", "<S>",
        "</sub>", "if a<s>b", "<strong>", "x |> y", "||", "<<SYSTEM>>", "",
    ]  # fmt: skip
    assert flagged(leaked_tokens(pl.Series(texts)), texts) == []


def test_truncated_is_the_length_reason_alone() -> None:
    reasons = pl.Series(["stop", "length", None, "eos", ""], dtype=pl.String)
    assert truncated(reasons).to_list() == [False, True, False, False, False]


def test_duplicate_is_a_later_row_of_the_same_prompt_with_the_same_text() -> None:
    prompts = pl.Series([0, 0, 0, 1, 1, 0], dtype=pl.UInt32)
    texts = pl.Series(["a", "b", "a", "a", "a ", "a"])
    assert duplicate(prompts, texts).to_list() == [False, False, True, False, False, True]
