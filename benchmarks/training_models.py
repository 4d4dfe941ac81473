"""Random policies of a given shape with a tokenizer of made-up words, and texts of realistic lengths for them."""

import math
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

SPECIAL = ("<pad>", "<end>", "<user>", "<assistant>")
TEMPLATE = (
    "{% for m in messages %}{{ '<' + m['role'] + '> ' + m['content'] + ' <end> ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
CONTEXT = 2048


@dataclass(frozen=True, slots=True)
class Shape:
    """Layers x hidden size x vocabulary."""

    layers: int
    hidden: int
    vocabulary: int

    @classmethod
    def of(cls, text: str) -> "Shape":
        """From `6x384x8192`."""
        return cls(*map(int, text.split("x")))

    @property
    def parameters(self) -> int:
        """Of the matrices; embeddings and the output layer are two."""
        return self.layers * 12 * self.hidden**2 + 2 * self.hidden * self.vocabulary

    @property
    def multiplied(self) -> int:
        """Parameters that a token is multiplied with, each one multiplication and one addition: embeddings are not."""
        return self.parameters - self.hidden * self.vocabulary

    def __str__(self) -> str:
        return f"{self.layers}x{self.hidden}x{self.vocabulary}"


def words_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Every word is a token; the first four are special."""
    words = [*SPECIAL, *(f"w{number}" for number in range(len(SPECIAL), vocabulary))]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>", additional_special_tokens=list(SPECIAL[2:])
    )
    fast.chat_template = TEMPLATE
    return fast


def random_model(shape: Shape) -> Qwen3ForCausalLM:
    """The same weights every time."""
    torch.manual_seed(0)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=shape.vocabulary, hidden_size=shape.hidden, intermediate_size=3 * shape.hidden,
            num_hidden_layers=shape.layers, num_attention_heads=max(1, shape.hidden // 64),
            num_key_value_heads=max(1, shape.hidden // 128), head_dim=64, max_position_embeddings=CONTEXT,
            tie_word_embeddings=False, pad_token_id=0, bos_token_id=None, eos_token_id=1, dtype="float32",
        )
    )  # fmt: skip


def save_policy(shape: Shape, folder: Path) -> Path:
    """A model folder, as it may be downloaded."""
    random_model(shape).save_pretrained(folder)
    words_tokenizer(shape.vocabulary).save_pretrained(folder)
    return folder


def text(random: Random, vocabulary: int, median: int, spread: float, least: int, most: int) -> str:
    """Words, as many as a log-normal number within bounds."""
    length = max(least, min(most, round(math.exp(random.gauss(math.log(median), spread)))))
    return " ".join(f"w{random.randrange(len(SPECIAL), vocabulary)}" for _ in range(length))


def prompt_text(random: Random, vocabulary: int) -> str:
    """15 to 600 tokens, half of them below 150."""
    return text(random, vocabulary, 150, 0.7, 15, 600)


def completion_text(random: Random, vocabulary: int) -> str:
    """20 to 400 tokens, half of them below 180."""
    return text(random, vocabulary, 180, 0.8, 20, 400)
