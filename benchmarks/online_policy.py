"""Small policies that half know addition, trained from nothing, and the problems they are asked.

A problem is `a+b` with a below 1000 and b below 100, its answer a number of one to four digits, one token each. Of the
100,000 problems, `PROBLEMS` go into the file that prefkit samples, splits and evaluates on; a policy practises on the
others, so it has seen none of these, held out or not. Training stops when the running average of the weights is right
in a share `target` of its draws, on problems that it never practised. That share is exact: the probability of the right
answer. A policy may have a way of its own to write an answer.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer, decoders, models
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from prefkit.engines.loading import without_bars

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "recipes" / "arithmetic"))
from train_policy import averaged_steps

PROBLEMS = 10_000
VALIDATION = 1_000
TARGET = 0.45
PAD, END, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"
TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
LEARNING_RATE = 2e-3
BATCH = 64
CHECK_EVERY = 10
MOST_STEPS = 5_000
IGNORED = -100
Written = Callable[[int], str]
"""How a policy writes an answer."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A sum and what it makes."""

    a: int
    b: int

    @property
    def question(self) -> str:
        """As the policy reads it."""
        return f"{self.a}+{self.b}"

    @property
    def answer(self) -> int:
        """What is right."""
        return self.a + self.b


@dataclass(frozen=True, slots=True)
class Problems:
    """All problems, in three parts that share none."""

    asked: Sequence[Problem]
    """What prefkit reads; it holds a share of them out."""
    validation: Sequence[Problem]
    practice: Sequence[Problem]


def problems() -> Problems:
    """The same parts every time."""
    every = [Problem(a, b) for a in range(1000) for b in range(100)]
    Random("problems").shuffle(every)
    rest = every[PROBLEMS:]
    return Problems(every[:PROBLEMS], rest[:VALIDATION], rest[VALIDATION:])


def write_problems(path: Path) -> None:
    """One problem a line, as `prompt` and `answer`."""
    lines = [json.dumps({"prompt": p.question, "answer": plain(p.answer)}) for p in problems().asked]
    path.write_text("\n".join(lines) + "\n")


def plain(answer: int) -> str:
    """The answer as it is asked for."""
    return str(answer)


def make_policy(seed: int, folder: Path, target: float = TARGET, written: Written = plain) -> dict[str, float]:
    """Trains a policy, saves it in `folder`, and returns its parameters, steps and accuracy on validation problems.

    Policies of the same seed and another target are earlier or later on the same way.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    tokenizer = _tokenizer()
    start, validation = _new_model(tokenizer), batch(tokenizer, problems().validation, written)
    for steps, model, _ in averaged_steps(
        start, _practice(tokenizer, Random(f"practice/{seed}"), written), LEARNING_RATE
    ):
        if steps % CHECK_EVERY == 0 and (share := accuracy(model, *validation)) >= target:
            return _saved(model, tokenizer, folder) | {"steps": steps, "validation": share}
    raise RuntimeError(f"no policy was right in {target:.0%} of its draws after {MOST_STEPS} steps")


def _saved(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> dict[str, float]:
    with without_bars():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        # A tokenizer that was loaded says so where it is saved. As a run will save it, an unchanged policy is the same.
        AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    return {"parameters": sum(p.numel() for p in model.parameters())}


def expected_accuracy(policy: Path, asked: Sequence[Problem]) -> float:
    """The exact share of right draws at T = 1: the mean probability of the right answer."""
    with without_bars():
        model = Qwen3ForCausalLM.from_pretrained(policy).eval()
        return accuracy(model, *batch(AutoTokenizer.from_pretrained(policy), asked))


def _tokenizer() -> PreTrainedTokenizerFast:
    """Every character is a token; PAD is 0 and END is 1."""
    special = [PAD, END, USER, ASSISTANT]
    vocabulary = {token: number for number, token in enumerate([*special, "+", *"0123456789"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, additional_special_tokens=[USER, ASSISTANT]
    )
    fast.chat_template = TEMPLATE
    return fast


def _new_model(tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=192,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            max_position_embeddings=32,
            tie_word_embeddings=True,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=None,
            dtype="float32",
        )
    )


def _practice(
    tokenizer: PreTrainedTokenizerFast, random: Random, written: Written
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    asked = problems().practice
    for _ in range(MOST_STEPS):
        yield batch(tokenizer, random.sample(asked, BATCH), written)


def prompt_text(problem: Problem) -> str:
    """As the chat template renders it."""
    return f"{USER}{problem.question}{END}{ASSISTANT}"


def batch(
    tokenizer: PreTrainedTokenizerFast, asked: Sequence[Problem], written: Written = plain
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and targets, padded behind the text; only the answer and its end are targets."""
    prompts = tokenizer([prompt_text(p) for p in asked])["input_ids"]
    answers = tokenizer([f"{written(p.answer)}{END}" for p in asked])["input_ids"]
    longest = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
    tokens = torch.zeros((len(asked), longest), dtype=torch.long)
    targets = torch.full_like(tokens, IGNORED)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        end = len(prompt) + len(answer)
        tokens[row, :end] = torch.tensor(prompt + answer)
        targets[row, len(prompt) : end] = torch.tensor(answer)
    return tokens, targets


def accuracy(model: PreTrainedModel, tokens: torch.Tensor, targets: torch.Tensor) -> float:
    """The mean probability of the targets."""
    with torch.no_grad():
        logprobs = torch.log_softmax(model(input_ids=tokens).logits[:, :-1], -1)
    asked = targets[:, 1:]
    right = logprobs.gather(-1, asked.clamp(min=0)[..., None])[..., 0]
    return right.where(asked != IGNORED, 0.0).sum(-1).exp().mean().item()
