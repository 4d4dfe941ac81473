"""What the parts of `shift.py` share: the demo policy and its relatives, their draws, and log-probs under a reference.

A frame of draws has the columns `prompt`, `draw` (both numbers), `text`, `token_ids` and `behavior_logps`; scoring adds
`logps`, `tokens` and `cut`. Draws of one policy, prompt, number and seed are always the same.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from prefkit.engines.chat import Chat
from prefkit.engines.logprobs import TransformersReference
from prefkit.engines.transformers_sampler import TransformersSampler
from prefkit.identity import content_id
from prefkit.sampling.config import TransformersSampler as Sampling
from prefkit.sampling.protocol import Sample, SampleRequest
from prefkit.shift.bootstrap import Bootstrap, Column, resampled_means
from prefkit.shift.protocol import Text

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "arithmetic"
sys.path.insert(0, str(RECIPE))

import make_problems  # noqa: E402
import train_policy  # noqa: E402

__all__ = ["make_problems", "train_policy"]

BOOTSTRAP = Bootstrap(resamples=500)


@dataclass(frozen=True)
class Policy:
    """A model in this process with its tokenizer; `name` tells its draws from another's in the cache."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    def with_model(self, name: str, model: PreTrainedModel) -> "Policy":
        """The same tokenizer, other weights."""
        return Policy(name, model, self.tokenizer)

    @property
    def reference(self) -> TransformersReference:
        """As a model that scores."""
        return TransformersReference(self.model, Chat(self.tokenizer), self.name)


def demo_policy() -> Policy:
    """The policy of recipes/arithmetic: 0.9 million parameters, right about half of the time."""
    folder = RECIPE / "policy"
    model = cast(PreTrainedModel, AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))
    return Policy("demo", model.eval(), AutoTokenizer.from_pretrained(folder))


def demo_problems(count: int) -> list[make_problems.Problem]:
    """Problems that the policy was not trained on; the first 400 are those of the recipe."""
    return make_problems.distinct("demo", count, seed=1)


def drawn(policy: Policy, asked: Sequence[str], numbers: range, seed: int, max_new_tokens: int = 64) -> pl.DataFrame:
    """Draws with these numbers of every prompt, at temperature 1."""
    config = Sampling(backend="transformers", max_new_tokens=max_new_tokens, batch_size=256, n=len(numbers), seed=seed)
    sampler = TransformersSampler(config, policy.model, Chat(policy.tokenizer), policy.name)
    places = {content_id("draw", [text, i]): (p, i) for p, text in enumerate(asked) for i in numbers}
    requests = [SampleRequest(key, message("user", asked[p])) for key, (p, _) in places.items()]
    found = [s for batch in sampler.sample(requests) for s in batch if isinstance(s, Sample)]
    rows = [
        (*places[s.completion_id], s.text, list(s.token_ids or ()), float(sum(s.behavior_logprobs or ())))
        for s in found
    ]
    schema = {
        "prompt": pl.Int64, "draw": pl.Int64, "text": pl.String, "token_ids": pl.List(pl.Int64),
        "behavior_logps": pl.Float64,
    }  # fmt: skip
    return pl.DataFrame(rows, schema, orient="row").sort("prompt", "draw")


def scored(
    reference: TransformersReference, frame: pl.DataFrame, asked: Sequence[str], max_length: int
) -> pl.DataFrame:
    """With the log-probs of every text under the reference; known token ids are scored as they are."""
    ids = frame["token_ids"] if "token_ids" in frame.columns else [None] * frame.height
    texts = [
        Text(line.to_bytes(8, "big"), message("user", asked[prompt]), message("assistant", text), tokens)
        for line, (prompt, text, tokens) in enumerate(zip(frame["prompt"], frame["text"], ids, strict=True))
    ]
    trained = reference.trained(texts, max_length)
    sums = {one.id: float(np.sum(one.logprobs)) for batch in reference.logprobs(trained) for one in batch}
    return frame.with_columns(
        logps=pl.Series([sums[row.id] for row in trained], dtype=pl.Float64),
        tokens=pl.Series([row.tokens for row in trained], dtype=pl.Int64),
        cut=pl.Series([row.cut > 0 for row in trained]),
    )


def message(role: str, content: str) -> list[dict[str, str]]:
    """A conversation of one message."""
    return [{"role": role, "content": content}]


def as_rows(frame: pl.DataFrame, source: str = "policy") -> pl.DataFrame:
    """Scored draws, at T = 1, as the rows of a version without pairs; `source` where they have none."""
    known = frame.columns
    return frame.with_columns(
        source=pl.col("source") if "source" in known else pl.lit(source),
        sampling_logps=pl.col("behavior_logps") if "behavior_logps" in known else pl.lit(None, pl.Float64),
        row=pl.int_range(pl.len()),
        side=pl.lit("completion"),
        staleness=pl.lit(None, pl.Int64),
    )


def kept(path: Path, make: Callable[[], pl.DataFrame]) -> pl.DataFrame:
    """The frame of this file, made and written first where there is none."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        frame = make()
        frame.write_parquet(path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)
    return pl.read_parquet(path)


def mean_of(values: Sequence[float]) -> dict[str, float | int]:
    """Mean of independent values, its 95 % interval by bootstrap over them, and how many they are."""
    column = Column(np.asarray(values, np.float64), np.arange(len(values)))
    found = resampled_means({"x": column}, Bootstrap(resamples=2000))["x"].estimate(0.95)
    return {"mean": digits(found.value), "low": digits(found.low), "high": digits(found.high), "of": len(values)}


def digits(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")
