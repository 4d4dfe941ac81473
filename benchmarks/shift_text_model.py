"""A small reference for real text, trained from nothing: Qwen3 with a byte-level BPE tokenizer of its own.

It learns the completions of the Tulu 2 models to most AlpacaEval prompts. Five minutes of one core make no good model:
it is a reference whose data is known, with an end-of-sequence token, a chat template and samples of its own.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import polars as pl
import torch
from shift_models import Policy, train_policy
from shift_tuning import batch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

PAD, END, TURNS = train_policy.PAD, train_policy.END, [train_policy.SYSTEM, train_policy.USER, train_policy.ASSISTANT]
VOCABULARY, CONTEXT, LONGEST = 2048, 256, 192
STEPS, BATCH, LEARNING_RATE, WARM_UP = 500, 16, 3e-3, 40
FAMILY = "tulu-2"


@dataclass(frozen=True)
class Texts:
    """AlpacaEval in two: prompts to learn from, and prompts to check."""

    prompts: list[str]
    """Held out, short ones, in a random order."""
    completions: pl.DataFrame
    """Theirs: `prompt` (place in `prompts`), `source`, `text`; none of them blank."""
    lessons: list[tuple[str, str]]
    """Prompts and completions of the family, in a random order; no prompt is among the held-out ones."""


def alpaca_eval(folder: Path, held_out: int) -> Texts:
    """Reads the published tables."""
    prompts = pl.read_parquet(folder / "prompts.parquet").select("prompt_id", asked="instruction")
    completions = pl.read_parquet(folder / "completions.parquet").select("prompt_id", source="model", text="output")
    completions = completions.filter(pl.col("text").str.strip_chars() != "").join(prompts, on="prompt_id")
    short = prompts.filter(pl.col("asked").str.len_chars() <= 160).sort("prompt_id")
    held = short.sample(held_out, shuffle=True, seed=0).with_row_index("prompt").cast({"prompt": pl.Int64})
    family = completions.filter(pl.col("source").str.contains(FAMILY, literal=True)).join(
        held, on="prompt_id", how="anti"
    )
    family = (
        family.filter(pl.col("asked").str.len_chars() <= 400)
        .sort("prompt_id", "source")
        .sample(fraction=1, shuffle=True, seed=0)
    )
    return Texts(
        held["asked"].to_list(),
        completions.join(held.select("prompt_id", "prompt"), on="prompt_id")
        .select("prompt", "source", "text")
        .sort("prompt", "source", "text"),
        list(zip(family["asked"], family["text"], strict=True)),
    )


def text_reference(texts: Texts, folder: Path, steps: int = STEPS) -> Policy:
    """The trained reference; read from the folder where it was trained before."""
    if not (folder / "config.json").exists():
        torch.manual_seed(0)
        policy = Policy("text", _untrained(tokenizer := _tokenizer(texts.lessons)), tokenizer)
        _train(policy, texts.lessons, steps)
        tokenizer.save_pretrained(folder)
        policy.model.save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return Policy("text", model.eval(), AutoTokenizer.from_pretrained(folder))


def _tokenizer(lessons: Sequence[tuple[str, str]]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, END, *TURNS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((f"{asked} {text}" for asked, text in lessons), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END,
        additional_special_tokens=TURNS, model_max_length=CONTEXT + LONGEST,
    )  # fmt: skip
    fast.chat_template = train_policy.CHAT_TEMPLATE
    return fast


def _untrained(tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer), hidden_size=128, intermediate_size=384, num_hidden_layers=4,
            num_attention_heads=4, num_key_value_heads=2, head_dim=32, max_position_embeddings=CONTEXT + LONGEST,
            tie_word_embeddings=True, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None, dtype="float32",
        )
    )  # fmt: skip


def _train(policy: Policy, lessons: Sequence[tuple[str, str]], steps: int) -> None:
    model = policy.model.train()
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.05)
    start = time.monotonic()
    for step, texts in zip(range(steps), _shuffled(lessons), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min((step + 1) / WARM_UP, 1.0) * (1 - 0.9 * step / steps)
        tokens, targets = batch(policy, texts)
        loss = model(input_ids=tokens[:, :CONTEXT], labels=targets[:, :CONTEXT]).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            print(f"  step {step}  loss {loss.item():.3f}  {time.monotonic() - start:.0f} s", flush=True)


def _shuffled(lessons: Sequence[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    random = Random(0)
    while True:
        yield random.sample(lessons, BATCH)
