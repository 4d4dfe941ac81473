"""What a checkpoint of a toy policy is worth: its accuracy and its KL to the start, and the path that they make.

Accuracy is exact: the probability that the policy gives to the right answer, in any of the ways that count. KL is that
of whole completions, summed over tokens: each token's is exact, over the policy's own draws, two of every problem.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
from online_policy import END, Problem, Written, accuracy, batch, plain, prompt_text
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast, Qwen3ForCausalLM

MOST_TOKENS = 6
DRAWS = 2


def padded(answer: int) -> str:
    """With leading zeros."""
    return f"{answer:05d}"


def signed(answer: int) -> str:
    """With a sign."""
    return f"{answer:+d}"


WAYS: Sequence[Written] = (plain, padded, signed)


@dataclass(frozen=True, slots=True)
class Point:
    """A policy after `step` steps."""

    step: int
    accuracy: float
    kl: float
    """To the start, in nats per completion."""


class Examiner:
    """Knows the start policy and the problems that policies are examined on."""

    def __init__(self, start: Path, asked: Sequence[Problem]) -> None:
        tokenizer = AutoTokenizer.from_pretrained(start, padding_side="left")
        assert isinstance(tokenizer, PreTrainedTokenizerFast)
        self._start = _loaded(start)
        self._end = tokenizer.convert_tokens_to_ids(END)
        self._answers = [batch(tokenizer, asked, way) for way in WAYS]
        texts = [prompt_text(problem) for problem in asked for _ in range(DRAWS)]
        self._prompts = tokenizer(texts, padding=True, return_tensors="pt")

    def point(self, policy: Path, step: int) -> Point:
        """Of a policy in a folder."""
        model = _loaded(policy)
        right = sum(accuracy(model, *answers) for answers in self._answers)
        return Point(step, right, self._kl(model))

    @torch.no_grad()
    def _kl(self, model: Qwen3ForCausalLM) -> float:
        torch.manual_seed(0)
        prompts, mask = self._prompts["input_ids"], self._prompts["attention_mask"]
        drawn = model.generate(  # pyright: ignore[reportAttributeAccessIssue]
            input_ids=prompts, attention_mask=mask, do_sample=True, top_k=0, top_p=1.0, temperature=1.0,
            max_new_tokens=MOST_TOKENS, pad_token_id=0, eos_token_id=self._end,
        )  # fmt: skip
        completions = drawn[:, prompts.shape[1] :]
        mask = torch.cat([mask, torch.ones_like(completions)], dim=-1)
        of = partial(_logprobs, tokens=drawn, mask=mask, last=completions.shape[1])
        ours, theirs = of(model), of(self._start)
        ended = completions == self._end
        before_end = ended.cumsum(-1) - ended.long() == 0
        return ((ours.exp() * (ours - theirs)).sum(-1) * before_end).sum(-1).mean().item()


def _logprobs(model: PreTrainedModel, tokens: torch.Tensor, mask: torch.Tensor, last: int) -> torch.Tensor:
    """What predicts each of the `last` tokens, shape [rows, last, vocabulary]. Prompts are padded on the left."""
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    logits = model(input_ids=tokens, attention_mask=mask, position_ids=positions, logits_to_keep=last + 1).logits
    return logits[:, :-1].log_softmax(-1)


def _loaded(folder: Path) -> Qwen3ForCausalLM:
    return Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def reached(path: Sequence[Point], budget: float) -> float:
    """The highest accuracy on a path while its KL is at most `budget`; between two points it is a straight line.

    The first point is the start, whose KL is 0.
    """
    best = path[0].accuracy
    for one, other in pairwise(path):
        if other.kl <= budget:
            best = max(best, other.accuracy)
        if (one.kl <= budget) != (other.kl <= budget):
            share = (budget - one.kl) / (other.kl - one.kl)
            best = max(best, one.accuracy + share * (other.accuracy - one.accuracy))
    return best
