"""Policies near the demo policy: fine-tuned on tilted text, then moved back until the sequence KL is as asked.

    improved   on its own right answers (rejection sampling): what training on preferences is meant to do
    wording    on its own answers with 2 of 12 openings and 2 of 8 endings: narrower, but nothing that it would not say
    foreign    on another writer's solutions of the same problems, in words that it never uses

Weights between the reference's and the fine-tuned ones, beyond them where need be, give any KL in between.
"""

from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise
from random import Random

import numpy as np
import polars as pl
import torch
from shift_models import Policy, drawn, make_problems, scored
from transformers import PreTrainedModel

from prefkit.shift.divergence import k1, k3, log_ratios

KINDS = ("improved", "wording", "foreign")
TARGETS = (0.1, 0.5, 2.0)
FOREIGN = (
    "Sure! {steps}, which leaves us with {answer}, hope that helps.",
    "Well, {steps} makes {answer} in total, as anybody can check.",
    "Okay: {steps}; my result would be {answer}, I believe.",
    "Simple maths says {steps}. {answer} it is!",
)
STEPS, BATCH, LEARNING_RATE = 50, 32, 1e-3
TRIES, TRIAL = 6, 250
FARTHEST = 4.0


def lessons(
    kind: str, pool: pl.DataFrame, problems: Sequence[make_problems.Problem], seed: int
) -> list[tuple[str, str]]:
    """Prompts and texts to learn from: of the pool, or of another writer."""
    random = Random(f"{kind}/{seed}")
    texts = list(zip(pool["prompt"].to_list(), pool["text"].to_list(), strict=True))
    random.shuffle(texts)
    if kind == "improved":
        found = [(p, text) for p, text in texts if text.endswith(f"answer is {problems[p].answer}.")]
    elif kind == "wording":
        openings = tuple(random.sample(make_problems.OPENINGS, 2))
        endings = [ending.partition("{")[0].strip() for ending in random.sample(make_problems.ENDINGS, 2)]
        found = [(p, text) for p, text in texts if text.startswith(openings) and any(e in text for e in endings)]
    else:
        written = ((p, problems[p]) for p, _ in texts)
        found = [(p, random.choice(FOREIGN).format(steps=" and ".join(q.steps), answer=q.answer)) for p, q in written]
    return [(problems[p].question, text) for p, text in found[: STEPS * BATCH]]


def tuned(policy: Policy, texts: Sequence[tuple[str, str]], seed: int, steps: int = STEPS) -> PreTrainedModel:
    """The model after so many steps of maximum likelihood on completions."""
    model = deepcopy(policy.model).train()
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.0)
    random = Random(f"order/{seed}")
    for _ in range(steps):
        tokens, targets = batch(policy, random.sample(texts, BATCH))
        loss = model(input_ids=tokens, labels=targets).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


def batch(policy: Policy, texts: Sequence[tuple[str, str]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and targets, padded behind the text; only the completion is a target."""
    tokenizer = policy.tokenizer
    prompts = [tokenizer(f"<|user|>{asked}<|end|><|assistant|>")["input_ids"] for asked, _ in texts]
    completions = [tokenizer(f"{text}<|end|>")["input_ids"] for _, text in texts]
    longest = max(len(p) + len(c) for p, c in zip(prompts, completions, strict=True))
    tokens, targets = torch.full((2, len(texts), longest), tokenizer.pad_token_id)
    targets[:] = -100
    for line, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        end = len(prompt) + len(completion)
        tokens[line, :end] = torch.tensor(prompt + completion)
        targets[line, len(prompt) : end] = torch.tensor(completion)
    return tokens, targets


def between(policy: Policy, far: PreTrainedModel, share: float) -> Policy:
    """Weights at this share of the way: 0 is the reference, 1 the fine-tuned model."""
    model = deepcopy(policy.model)
    with torch.no_grad():
        for weight, end in zip(model.parameters(), far.parameters(), strict=True):
            weight.lerp_(end, share)
    return policy.with_model(f"{policy.name}+{share:.6f}", model)


def at_kl(policy: Policy, far: PreTrainedModel, asked: Sequence[str], seed: int) -> dict[float, Policy]:
    """A policy near each KL of TARGETS: the root of the KL is nearly linear in the way gone, and interpolated."""
    known = {0.0: 0.0}
    found: dict[float, Policy] = {}
    for target in sorted(TARGETS, reverse=True):
        share = 1.0
        for _ in range(TRIES):
            if share in known and abs(known[share] ** 2 / target - 1) < 0.2:
                break
            share = _next(known, target**0.5) if len(known) > 1 else 1.0
            if share not in known:
                known[share] = measured_kl(policy, between(policy, far, share), asked, seed) ** 0.5
        nearest = min((s for s in known if s > 0), key=lambda s: abs(known[s] - target**0.5))
        found[target] = between(policy, far, nearest)
    return found


def measured_kl(reference: Policy, policy: Policy, asked: Sequence[str], seed: int) -> float:
    """Sequence KL of a trial draw, in nats: k3, whose spread is small near 0, or k1 farther away."""
    frame = scored(reference.reference, drawn(policy, asked[:TRIAL], range(1), seed), asked, 256)
    ratio = log_ratios(frame["logps"].to_numpy(), frame["behavior_logps"].to_numpy())
    near, far = float(np.mean(k3(ratio))), float(np.mean(k1(ratio)))
    return near if near < 0.7 else max(far, 0.7)


def _next(known: dict[float, float], wanted: float) -> float:
    """Where the broken line through the known points reaches this height; on along its last piece beyond them."""
    points = sorted(known.items())
    for (left, low), (right, high) in pairwise(points):
        if low <= wanted <= high and high > low:
            far = high > 3 * wanted  # the line is no line there
            return round(left + (right - left) * (0.5 if far else (wanted - low) / (high - low)), 6)
    end, height = points[-1]
    return round(min(FARTHEST, end * min(2.0, wanted / max(height, 0.05))), 6)
