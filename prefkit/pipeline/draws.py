"""The sample stage: which draws the recipe needs, which of them are facts already, and how the rest is drawn.

A draw is keyed by (prompt, policy, policy version, sampler, index). The plan is exact: index below `n`, never
everything the table holds for a prompt. What is missing or failed for a passing reason is drawn, and every finished
batch is durable before the next is asked for.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from prefkit.errors import LedgerError
from prefkit.identity import id_words
from prefkit.pipeline.aligned import aligned, patched
from prefkit.pipeline.progress import Progress
from prefkit.pipeline.prompt_shares import in_share
from prefkit.records import COMPLETIONS
from prefkit.row_keys import completion_ids, name_words
from prefkit.sampling.config import WHOLE, PromptShare
from prefkit.sampling.protocol import Sample, SampleFailure, Sampler, SampleRequest
from prefkit.store.facts import FactStore, settled
from prefkit.store.id_index import IdIndex

SAMPLED = "sampled"
CHUNK = 20_000
"""Requests handed to a sampler at once."""


@dataclass(frozen=True, slots=True)
class Block:
    """One `sample` block with the identity of what it draws from."""

    number: int
    policy_id: str
    policy_version: int
    sampler_id: int
    n: int
    first: int = 0
    """The first sample index: a stream that comes to a prompt again draws further samples of it."""
    prompt_share: PromptShare = WHOLE
    """The prompts it draws for."""

    @property
    def where(self) -> Mapping[str, str | int]:
        """What all its facts have in common."""
        return {"policy_id": self.policy_id, "policy_version": self.policy_version, "sampler_id": self.sampler_id}


def planned_draws(prompts: pl.DataFrame, block: Block) -> pl.DataFrame:
    """The keys of a block: `prompt`, `prompt_id`, `block`, `sample_index`; `n` rows a prompt of its share, in order."""
    indexes = pl.DataFrame({"sample_index": np.arange(block.first, block.first + block.n, dtype=np.int32)})
    return (
        prompts.select("prompt", "prompt_id")
        .filter(in_share(prompts["prompt_id"], block.prompt_share))
        .join(indexes, how="cross")
        .with_columns(block=pl.lit(block.number, pl.UInt16))
    )


def draw_ids(prompt_ids: pa.Array, block: Block, sample_indexes: np.ndarray) -> pa.Array:
    """The ids of draws, from the columns of their key."""
    policy = name_words("policy", pa.array([block.policy_id]))
    return completion_ids(prompt_ids, policy, block.policy_version, block.sampler_id, sample_indexes)


def known_draws(
    facts: FactStore, plan: pl.DataFrame, block: Block, columns: Collection[pl.Expr], at: int
) -> pl.DataFrame:
    """The plan with its `completion_id`, and of the facts `outcome` (null: not drawn yet), `attempt`, `transient`,
    `superseded` and what the expressions over their columns give.
    """
    # The plan is dense and in order, so a fact's place in it is arithmetic.
    index = IdIndex(id_words(plan["prompt_id"].gather_every(block.n).to_arrow()))
    names = ["id", *_STATUS, "prompt_id", "sample_index", *_roots(columns)]
    parts: list[pl.DataFrame] = []
    for batch in facts.batches(COMPLETIONS, names, block.where, at):
        rows = pl.DataFrame(batch).with_columns(prompt=pl.Series(index.places(id_words(batch["prompt_id"]))))
        index_in_block = pl.col("sample_index") - block.first
        asked = rows.filter(pl.col("prompt") >= 0, index_in_block >= 0, index_in_block < block.n)
        parts.append(asked.select(*_found(columns), place=pl.col("prompt") * block.n + index_in_block))
    known, crowded = aligned(pl.concat(parts, rechunk=True), plan.height)
    undrawn = known["completion_id"].is_null().arg_true()
    missing = plan[undrawn]
    ids = draw_ids(missing["prompt_id"].to_arrow(), block, missing["sample_index"].to_numpy())
    known[undrawn, "completion_id"] = pl.Series(pl.from_arrow(ids))
    keys = pl.concat([plan, known], how="horizontal").with_row_index("place")
    if crowded.is_empty():
        return keys
    return patched(keys, crowded, drawn_now(facts, keys[crowded], columns, at))


def drawn_now(facts: FactStore, done: pl.DataFrame, columns: Collection[pl.Expr], at: int) -> pl.DataFrame:
    """What the facts know now of keys that were just drawn, a row per key in their order."""
    rows = settled(facts.gather(COMPLETIONS, ["id", "batch_id", *_STATUS, *_roots(columns)], done["completion_id"], at))
    found = rows.select(*_found(columns), "superseded")
    return done.select("completion_id").join(found, on="completion_id", how="left", maintain_order="left")


_STATUS = ("failure", "transient", "attempt")


def _roots(columns: Collection[pl.Expr]) -> list[str]:
    return [name for column in columns for name in column.meta.root_names()]


def _found(columns: Collection[pl.Expr]) -> list[pl.Expr]:
    outcome = pl.col("failure").cast(pl.Categorical).fill_null(SAMPLED).alias("outcome")
    return [pl.col("id").alias("completion_id"), pl.col("transient"), pl.col("attempt"), outcome, *columns]


def to_do(keys: pl.DataFrame, retry: Collection[str]) -> pl.DataFrame:
    """The keys that must be computed: never tried, failed for a passing reason, or of a failure kind to `retry`."""
    return keys.filter(
        pl.col("outcome").is_null() | pl.col("transient").fill_null(value=False) | pl.col("outcome").is_in(list(retry))
    )


def draw(facts: FactStore, sampler: Sampler, block: Block, missing: pl.DataFrame, progress: Progress) -> None:
    """Draws the missing keys (which carry their prompt's `messages`) and stores each batch as it finishes."""
    for start in range(0, missing.height, CHUNK):
        part = missing.slice(start, CHUNK)
        keys = {row["completion_id"]: row for row in part.drop("messages").iter_rows(named=True)}
        requests = [
            SampleRequest(i, m)
            for i, m in zip(part["completion_id"].to_list(), part["messages"].to_list(), strict=True)
        ]
        for batch in sampler.sample(requests):
            facts.append(COMPLETIONS, _rows(block, batch, [_claimed(keys, s.completion_id) for s in batch]))
            progress.advance(len(batch))
        if keys:
            raise LedgerError(
                f"sampler of {block.policy_id} answered {part.height - len(keys)} of {part.height} requests, "
                "expected all: the build is refused"
            )


def _claimed(keys: dict[bytes, dict[str, object]], completion_id: bytes) -> dict[str, object]:
    if completion_id not in keys:
        raise LedgerError(
            f"sampler answered {completion_id.hex()}, which was not asked for or was answered before: "
            "the build is refused"
        )
    return keys.pop(completion_id)


def _rows(block: Block, batch: Iterable[Sample | SampleFailure], keys: Sequence[dict[str, object]]) -> pa.Table:
    rows = [{**_key(block, key), **_result(result)} for result, key in zip(batch, keys, strict=True)]
    names = [n for n in COMPLETIONS.schema.names if n not in ("batch_id", "row_hash")]
    return pa.Table.from_pylist(rows, schema=pa.schema([COMPLETIONS.schema.field(n) for n in names]))


def _key(block: Block, key: Mapping[str, object]) -> dict[str, object]:
    attempt = key["attempt"]
    return {
        "id": key["completion_id"],
        "prompt_id": key["prompt_id"],
        "sample_index": key["sample_index"],
        "attempt": attempt + 1 if isinstance(attempt, int) else 0,
        **block.where,
    }


def _result(result: Sample | SampleFailure) -> dict[str, object]:
    if isinstance(result, SampleFailure):
        return {"failure": str(result.kind), "detail": result.detail, "transient": result.kind.transient}
    return {
        "completion": [{"role": "assistant", "content": result.text}],
        "token_ids": result.token_ids,
        "sampling_logprobs": result.sampling_logprobs,
        "behavior_logprobs": result.behavior_logprobs,
        "finish_reason": str(result.finish_reason),
        "transient": False,
    }
