"""Prompts behind a system message: what a policy that has one reads is a prompt of its own, and so is its log-prob."""

from collections.abc import Mapping, Sequence

import polars as pl
import pyarrow as pa

from prefkit.errors import RecipeError
from prefkit.pipeline.recipe import Recipe
from prefkit.records import PROMPTS
from prefkit.sampling.protocol import Message, with_system
from prefkit.sources.conversations import prompt_id
from prefkit.store.facts import FactStore, settled

Read = Mapping[bytes, bytes]
"""The prompt that a prompt is behind the system message; empty without one."""


def system_of(recipe: Recipe) -> str | None:
    """The system message that all `sample` blocks have. Raises RecipeError where they differ: a pair has one prompt."""
    systems = {block.system for block in recipe.sample}
    if len(systems) > 1:
        raise RecipeError(
            "`sample` blocks have different `system` messages, expected one: a pair has one prompt; write the messages "
            "into the prompts, or use one"
        )
    return next(iter(systems), None)


def read_behind(facts: FactStore, prompt_ids: pl.Series, system: str | None, at: int) -> Read:
    """What these prompts, which are stored as of `at`, are behind the system message."""
    behind = _behind(facts, prompt_ids, system, at)
    return {known: prompt_id(messages) for known, messages in behind.items()}


def store_behind(facts: FactStore, prompt_ids: pl.Series, system: str | None) -> Read:
    """The same, and the prompts behind the message are stored where they are new."""
    at = facts.heads()[PROMPTS.name]
    behind = _behind(facts, prompt_ids, system, at)
    read = {known: prompt_id(messages) for known, messages in behind.items()}
    stored = set(facts.gather(PROMPTS, ["id"], pl.Series(list(read.values()), dtype=pl.Binary), at)["id"])
    new = {read[known]: messages for known, messages in behind.items() if read[known] not in stored}
    if new:
        facts.append(PROMPTS, _rows(new))
    return read


def _behind(facts: FactStore, prompt_ids: pl.Series, system: str | None, at: int) -> dict[bytes, list[Message]]:
    if system is None:
        return {}
    found = settled(facts.gather(PROMPTS, ["id", "batch_id", "messages"], prompt_ids.unique(), at))
    return {known: with_system(messages, system) for known, messages in found.select("id", "messages").rows()}


def as_read(prompt_ids: str, read: Read) -> pl.Expr:
    """A column of prompt ids as they are behind the system message."""
    return pl.col(prompt_ids).replace_strict(read, return_dtype=pl.Binary) if read else pl.col(prompt_ids)


def _rows(prompts: Mapping[bytes, Sequence[Message]]) -> pa.Table:
    schema = PROMPTS.schema
    columns = {"id": list(prompts), "messages": list(prompts.values())}
    return pa.table({name: pa.array(values, schema.field(name).type) for name, values in columns.items()})
