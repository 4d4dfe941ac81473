"""Imported completions: which of those the imports hold are candidates of a build.

They stand beside the draws of the `sample` blocks, after them and in the order of their ids, so that no result depends
on the order of a file. What was said about a completion that hygiene dropped as an exact duplicate counts for the one
that was kept: a rating is of a text.
"""

from collections.abc import Iterable
from fnmatch import fnmatchcase

import polars as pl

from prefkit.errors import DamageError
from prefkit.hygiene.outcomes import HygieneOutcome
from prefkit.pipeline.completions import IMPORTED
from prefkit.pipeline.prompt_shares import in_share
from prefkit.pipeline.recipe import CompletionsConfig
from prefkit.records import COMPLETIONS, IMPORTED_POLICY
from prefkit.store.facts import FactStore, settled

OTHER_MODEL = "other_model"
"""The recipe leaves its model out."""
OTHER_PROMPT = "other_prompt"
"""Its prompt is not in the build."""
OTHER_SHARE = "other_share"
"""The recipe asks for imported completions of other prompts."""
_TEXT = pl.col("completion").list.eval(pl.element().struct.field("content")).list.join("\n\n").alias("text")
"""All turns of a completion: imported ones may have several."""
_COLUMNS = ("id", "batch_id", "transient", "attempt", "prompt_id", "policy_id", "completion", "finish_reason")


def imported_completions(
    facts: FactStore, ids: pl.Series, tasks: pl.DataFrame, config: CompletionsConfig, block: int, at: int
) -> pl.DataFrame:
    """The completions with these ids, sorted by prompt and id, in the columns of draws, with `policy_id`.

    `outcome` is `imported` for candidates, and `prompt` null for completions of prompts that are not in the build.
    Raises DamageError when one is missing.
    """
    found = settled(facts.gather(COMPLETIONS, _COLUMNS, ids, at))
    if found.height != len(ids):
        raise DamageError(
            f"{len(ids) - found.height} of {len(ids)} imported completions are not in the fact tables: import them anew"
        )
    policies = found["policy_id"].unique().to_list()
    rows = found.select(
        "prompt_id", "policy_id", "transient", "attempt", "superseded", "finish_reason", _TEXT, completion_id="id"
    )
    rows = rows.join(tasks.select("prompt", "prompt_id"), on="prompt_id", how="left").sort("prompt", "completion_id")
    outcome = (
        pl.when(~pl.col("policy_id").is_in(asked_policies(policies, config))).then(pl.lit(OTHER_MODEL))
        .when(pl.col("prompt").is_null()).then(pl.lit(OTHER_PROMPT))
        .when(~in_share(rows["prompt_id"], config.prompt_share)).then(pl.lit(OTHER_SHARE))
        .otherwise(pl.lit(IMPORTED))
    )  # fmt: skip
    return rows.with_columns(
        outcome=outcome,
        block=pl.lit(block, pl.UInt16),
        sample_index=pl.int_range(pl.len(), dtype=pl.Int32).over("prompt"),
    )


def asked_policies(policies: Iterable[str], config: CompletionsConfig) -> list[str]:
    """Those policy ids whose model the configuration asks for."""
    models = {policy: policy.removeprefix(IMPORTED_POLICY) for policy in policies}
    return [
        policy for policy, model in models.items() if _fits(model, config.models) and not _fits(model, config.exclude)
    ]


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def rated_candidates(held: pl.DataFrame, cleaned: pl.DataFrame, candidates: pl.DataFrame) -> pl.DataFrame:
    """For every imported completion (`completion_id`, `prompt_id`, `policy_id`) the `candidate` its ratings count for.

    That is itself or, of an exact duplicate, the completion that was kept in its place; null where there is none.
    """
    named = held.select("completion_id", "prompt_id", "policy_id")
    if held.is_empty():
        return named.with_columns(candidate=pl.lit(None, pl.UInt32))
    return named.join(places_of(cleaned, candidates), on="completion_id", how="left")


def places_of(cleaned: pl.DataFrame, candidates: pl.DataFrame) -> pl.DataFrame:
    """`completion_id` and the `candidate` with its text: itself or, of an exact duplicate, the copy that was kept."""
    own = candidates.select("completion_id", "candidate")
    repeated = cleaned.filter(pl.col("outcome") == HygieneOutcome.DUPLICATE).select("prompt", "text", "completion_id")
    kept = candidates.select("prompt", "text", "candidate").join(repeated, on=["prompt", "text"], how="inner")
    return pl.concat([own, kept.select("completion_id", "candidate")])
