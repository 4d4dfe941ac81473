"""Reward-model scoring against the loop people write first: batches in file order, padded to their longest text.

    python benchmarks/reward_model.py --json benchmarks/results/reward_model.json

Both score the same texts with the same random sequence classifier (float32, the tokenizer of the arithmetic policy), in
one process, taking turns; both render, tokenise and run the model. Lengths are log-normal, with the spread that answers
to AlpacaEval's prompts have (227 models, 152,762 answers: standard deviation of the logarithm 0.86). `ratio` is the
naive loop's CPU time over ours, `positions` how many tokens the model computed for each real one, and `most_apart` the
largest difference between a score of either and the score of the same text alone.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, PreTrainedModel, Qwen3Config, Qwen3ForSequenceClassification

from prefkit.engines.batching import batches
from prefkit.engines.chat import Chat
from prefkit.engines.reward_model import RewardModel
from prefkit.sampling.protocol import Message
from prefkit.scoring.config import RewardModelScorer
from prefkit.scoring.protocol import Score, ScoreRequest

TOKENIZER = Path(__file__).parents[1] / "recipes" / "arithmetic" / "policy"
MEDIAN, SPREAD, LONGEST = 300, 0.86, 2048
PROMPT = 30


def classifier(hidden: int, layers: int) -> PreTrainedModel:
    """A random sequence classifier with one output and a context of 2,048 tokens."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=464, hidden_size=hidden, intermediate_size=3 * hidden, num_hidden_layers=layers,
        num_attention_heads=hidden // 64, num_key_value_heads=hidden // 64, head_dim=64,
        max_position_embeddings=LONGEST, num_labels=1, pad_token_id=0, eos_token_id=1, initializer_range=0.05,
    )  # fmt: skip
    return Qwen3ForSequenceClassification(config).eval().requires_grad_(False)


def requests(count: int) -> list[ScoreRequest]:
    """Texts of digits, which the tokenizer reads one by one."""
    rng = np.random.default_rng(0)
    lengths = np.exp(rng.normal(np.log(MEDIAN), SPREAD, count)).clip(PROMPT + 10, LONGEST - 10).astype(int)
    digits = ["".join(map(str, rng.integers(0, 10, length))) for length in lengths]
    prompts: list[list[Message]] = [[{"role": "user", "content": d[:PROMPT]}] for d in digits]
    return [
        ScoreRequest(i.to_bytes(16, "little"), "reward_model", 0, prompt, d[PROMPT:], {})
        for i, (prompt, d) in enumerate(zip(prompts, digits, strict=True))
    ]


def token_ids(chat: Chat, asked: Sequence[ScoreRequest]) -> list[list[int]]:
    """The texts of requests as the model reads them."""
    said: list[list[Message]] = [[*r.prompt, {"role": "assistant", "content": r.completion}] for r in asked]
    return chat.token_ids([chat.conversation_text(messages) for messages in said])


@torch.inference_mode()
def naive(model: PreTrainedModel, chat: Chat, asked: Sequence[ScoreRequest], rows: int) -> dict[bytes, float]:
    """Scores by completion id from batches in file order."""
    found: dict[bytes, float] = {}
    for start in range(0, len(asked), rows):
        part = asked[start : start + rows]
        texts = token_ids(chat, part)
        longest = max(map(len, texts))
        ids = torch.tensor([t + [0] * (longest - len(t)) for t in texts])
        mask = torch.tensor([[1] * len(t) + [0] * (longest - len(t)) for t in texts])
        logits = model(input_ids=ids, attention_mask=mask).logits[:, 0].tolist()
        found |= {r.completion_id: score for r, score in zip(part, logits, strict=True)}
    return found


def ours(model: RewardModel, asked: Sequence[ScoreRequest]) -> dict[bytes, float]:
    """Scores by completion id from prefkit's scorer."""
    return {o.completion_id: o.score for batch in model.score(asked) for o in batch if isinstance(o, Score)}


def seconds(step: Callable[[], dict[bytes, float]]) -> float:
    """CPU time of one run, which a busy machine changes less than wall time."""
    started = time.process_time()
    step()
    return time.process_time() - started


def positions(lengths: Sequence[int], cuts: Sequence[slice]) -> float:
    """Tokens computed for each real one."""
    return sum(max(lengths[cut]) * len(lengths[cut]) for cut in cuts) / sum(lengths)


def benchmark(count: int, rows: int, repeats: int, hidden: int, layers: int) -> dict[str, object]:
    """Times, ratio and agreement of both."""
    chat = Chat(AutoTokenizer.from_pretrained(TOKENIZER, model_max_length=LONGEST))
    model, asked = classifier(hidden, layers), requests(count)
    config = RewardModelScorer(kind="reward_model", model="benchmark", device="cpu")
    scorer = RewardModel(config, model, chat)
    steps = {"naive": lambda: naive(model, chat, asked, rows), "prefkit": lambda: ours(scorer, asked)}
    found = {name: step() for name, step in steps.items()}  # also warms up
    alone = naive(model, chat, asked, 1)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            times[name].append(seconds(step))
    lengths = [len(t) for t in token_ids(chat, asked)]
    longest_first = sorted(lengths, reverse=True)
    cuts = {
        "naive": (lengths, [slice(i, i + rows) for i in range(0, count, rows)]),
        "prefkit": (longest_first, list(batches(longest_first, config.batch_tokens, config.batch_size))),
    }
    medians = {name: statistics.median(t) for name, t in times.items()}
    return {
        "texts": count,
        "tokens": {"all": sum(lengths), "median": statistics.median(lengths), "longest": max(lengths)},
        "rows_of_a_naive_batch": rows,
        "tokens_of_our_batches": config.batch_tokens,
        "cpu_seconds": medians,
        "ratio": medians["naive"] / medians["prefkit"],
        "ratios": [a / b for a, b in zip(times["naive"], times["prefkit"], strict=True)],
        "positions": {name: positions(*cut) for name, cut in cuts.items()},
        "most_apart": {name: max(abs(s[i] - alone[i]) for i in alone) for name, s in found.items()},
        "scores": {"smallest": min(alone.values()), "largest": max(alone.values())},
    }


def main() -> None:
    """Runs everything and prints, and writes, one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=512)
    parser.add_argument("--rows", type=int, default=16, help="rows of a batch of the naive loop")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    machine = {"cores": os.cpu_count(), "threads": options.threads, "python": platform.python_version()}
    model = {"hidden": options.hidden, "layers": options.layers, "dtype": "float32", "torch": torch.__version__}
    result = benchmark(options.texts, options.rows, options.repeats, options.hidden, options.layers)
    text = json.dumps({"machine": machine, "model": model} | result, indent=1)
    print(text)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
