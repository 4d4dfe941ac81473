"""The `hygiene` block of a recipe: which defects drop a prompt, a completion or a pair."""

from typing import Literal

from pydantic import Field

from prefkit.config import Config


class HygieneConfig(Config):
    """What is looked for before judge money is spent. Whatever is dropped ends in an outcome of its detector's name."""

    empty: bool = True
    """Drop prompts and completions without a visible character."""
    duplicates: Literal["exact", "off"] = "exact"
    """Drop completions that repeat an earlier one of the same prompt, character for character."""
    mojibake: bool = True
    """Drop texts with traces of a wrong decoding (`Ã©`, `â€™`, U+FFFD)."""
    leaked_tokens: bool = True
    """Drop completions that contain a model's control tokens (`<|im_end|>`, `</s>`, `[INST]`)."""
    constant: int | None = Field(default=10, ge=2)
    """Drop texts of 100 characters or more that are the completion of this many prompts or more; null keeps them."""
    truncated: bool = True
    """Drop completions that ran into `max_new_tokens`."""
