"""What earlier imports offer to one that takes its prompts from another source: what the keys of its files may mean."""

import polars as pl

from prefkit.errors import RecipeError
from prefkit.pipeline.imports.content import Import, feeding, held, require_import
from prefkit.records import COMPLETIONS, IMPORTS, TASKS
from prefkit.sources.linking.completions import NAMED
from prefkit.sources.linking.whole import PROMPT_KEYS, Known
from prefkit.store.facts import FactStore


def prompts_source(facts: FactStore, source: str, prompts_from: str | None) -> str:
    """The source whose prompts an import is about: its own, or where the one it names has its prompts from.

    Raises NotFoundError when that was never imported, and RecipeError when it has its prompts from this very source.
    """
    if prompts_from is None:
        return source
    root = require_import(facts, prompts_from).prompts_source
    if root == source:
        raise RecipeError(
            f"source {source!r} takes its prompts from {prompts_from!r}, which has them from {source!r}: "
            "import it under another name"
        )
    return root


def offering(facts: FactStore, source: str, prompts_of: str) -> tuple[Import, ...]:
    """The imports that an import into `source` may refer to: those about the same prompts, but its own earlier one."""
    if prompts_of == source:
        return ()
    return tuple(i for i in feeding(facts, prompts_of) if i.source != source)


def known_to(facts: FactStore, imports: tuple[Import, ...]) -> Known:
    """What the files of an import may refer to."""
    if not imports:
        return Known()
    at = facts.heads()
    ids = [i.id for i in imports]
    order = pl.DataFrame({"id": pl.Series(ids, dtype=pl.Binary)})
    rows = facts.read(
        IMPORTS, ["id", "prompt_keys", "completion_ids", "completion_keys"], {"id": ids}, at[IMPORTS.name]
    )
    rows = order.join(rows, on="id", how="left", maintain_order="left")
    keys = rows.select(pl.col("prompt_keys").explode(empty_as_null=False)).drop_nulls().unnest("prompt_keys")
    names = rows.select(completion_id="completion_ids", key="completion_keys")
    names = names.explode("completion_id", "key", empty_as_null=False).unique(maintain_order=True)
    tasks = held(facts, imports, "task_ids", at[IMPORTS.name])
    prompts = facts.gather(TASKS, ["id", "prompt_id"], tasks, at[TASKS.name])["prompt_id"].unique()
    columns = ["id", "prompt_id", "policy_id", "sampler_id"]
    completions = facts.gather(COMPLETIONS, columns, names["completion_id"].unique(), at[COMPLETIONS.name])
    named = names.join(
        completions.unique("id"), left_on="completion_id", right_on="id", how="inner", maintain_order="left"
    )
    keys = keys.select(PROMPT_KEYS.keys()).unique("key", keep="first", maintain_order=True)
    return Known(keys, prompts, named.select(NAMED.keys()))
