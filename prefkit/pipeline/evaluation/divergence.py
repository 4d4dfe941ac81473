"""How far a policy has moved: log-probs of its own completions under the start, as facts, less those it sampled with.

A prompt behind a system message is a prompt of its own: the start reads what the policy has read.
"""

from collections.abc import Mapping

import polars as pl
import pyarrow as pa

from prefkit.errors import LedgerError
from prefkit.pipeline.logps import known_logps, unknown
from prefkit.pipeline.reference_maker import LocalReference
from prefkit.records import PROMPTS
from prefkit.sampling.protocol import Message, with_system
from prefkit.sources.conversations import prompt_id
from prefkit.store.facts import FactStore


def log_ratios(completions: pl.DataFrame, prompts: Mapping[bytes, bytes], reference: LocalReference) -> pl.Series:
    """The log-prob of each completion under the start less that under its own policy, in nats; null where unknown.

    `completions` have `completion_id`, `prompt_id`, `token_ids` and `behavior_logps`; `prompts` says as which prompt
    each one is read. Not known of completions whose tokens the start does not read as the same text.
    """
    read = pl.col("prompt_id").replace_strict(prompts, return_dtype=pl.Binary) if prompts else pl.col("prompt_id")
    texts = completions.select("completion_id", read)
    known = _known(texts, reference)
    if reference.score(known):
        known = _known(texts, reference)
    if missing := unknown(known).height:
        raise LedgerError(f"{missing} of {known.height} log-probs have no fact after they were computed, expected all")
    same = ~known["cut"] & ~known["retokenised"] & (known["tokens"] == completions["token_ids"].list.len())
    ratio = known["logps"] - completions["behavior_logps"]
    return pl.select(log_ratio=pl.when(same).then(ratio)).to_series()


def read_prompts(facts: FactStore, tasks: pl.DataFrame, system: str | None) -> dict[bytes, bytes]:
    """The prompt that each prompt of the tasks is behind the system message, which is stored; empty without one."""
    if system is None:
        return {}
    messages: list[list[Message]] = [with_system(prompt, system) for prompt in tasks["messages"]]
    ids = [prompt_id(prompt) for prompt in messages]
    found = facts.gather(PROMPTS, ["id"], pl.Series(ids, dtype=pl.Binary), facts.heads()[PROMPTS.name])
    stored = set(found["id"])
    new = [(i, prompt) for i, prompt in zip(ids, messages, strict=True) if i not in stored]
    if new:
        schema = PROMPTS.schema
        columns = zip(("id", "messages"), zip(*new, strict=True), strict=True)
        facts.append(PROMPTS, pa.table({name: pa.array(values, schema.field(name).type) for name, values in columns}))
    return dict(zip(tasks["prompt_id"], ids, strict=True))


def _known(texts: pl.DataFrame, reference: LocalReference) -> pl.DataFrame:
    return known_logps(reference.facts, reference.yardstick, texts, reference.facts.heads())
