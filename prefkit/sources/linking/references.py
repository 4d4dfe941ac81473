"""Which completion a rating is about: one in a slot of its own row, or one that has the key within its prompt."""

import polars as pl

from prefkit.sources.linking.completions import KEY, NAMED, LinkedCompletions, first_completion_ids
from prefkit.sources.linking.messages import content_hashes
from prefkit.sources.linking.records import first_of
from prefkit.sources.outcomes import ImportOutcome

_FOUND = ("completion_id", "policy_id", "sampler_id", "several")


def nameable(linked: LinkedCompletions, known: pl.DataFrame) -> pl.DataFrame:
    """One row per `prompt_id` and `key`: a completion of that name, and whether there are `several`.

    Completions of the import itself come before those `known` from earlier ones (columns of NAMED).
    """
    own = linked.named
    earlier = known.join(own.select("prompt_id", "key").unique(), on=["prompt_id", "key"], how="anti")
    every = pl.concat([own.select(NAMED.keys()), earlier.select(NAMED.keys())]).filter(pl.col("key").is_not_null())
    return every.group_by("prompt_id", "key", maintain_order=True).agg(
        pl.col("completion_id", "policy_id", "sampler_id").first(),
        several=pl.col("completion_id").n_unique() > 1,
    )


def referenced(rows: pl.DataFrame, side: str, slots: pl.DataFrame, names: pl.DataFrame) -> pl.DataFrame:
    """For each row what the reference in its column `side` names: `completion_id` (null: nothing), `policy_id`,
    `sampler_id`, `several`, and of the reference `key`, `slot` and `seen`.
    """
    asked = rows.select("place", "table", "row", "prompt_id", side).unnest(side)
    in_slot = pl.col("slot").is_not_null()
    columns = ["place", "prompt_id", "slot", "key", "seen", *_FOUND]
    once = slots.unique(["table", "row", "slot"], keep="first").with_columns(several=pl.lit(value=False))
    by_slot = asked.filter(in_slot).join(once, on=["table", "row", "slot", "prompt_id"], how="left").select(columns)
    by_key = asked.filter(~in_slot).join(names, on=["prompt_id", "key"], how="left").select(columns)
    return pl.concat([by_slot, by_key]).sort("place")


def reference_outcome(found: pl.DataFrame) -> pl.DataFrame:
    """`outcome` and `detail` of references that name no completion, or several; null where they name one."""
    name = pl.coalesce("key", "slot").str.slice(0, 80)
    outcome, detail = first_of(
        [
            (
                pl.col("completion_id").is_null(),
                ImportOutcome.MISSING_COMPLETION,
                pl.format("the prompt has no completion {}", name.fill_null("without a name")),
            ),
            (
                pl.col("several"),
                ImportOutcome.AMBIGUOUS_COMPLETION,
                pl.format("the prompt has several completions {}", name),
            ),
        ]
    )
    return found.select(outcome, detail)


def as_seen(found: pl.DataFrame) -> tuple[pl.Series, pl.DataFrame]:
    """The ids of the completions that the scorer saw, and those among them that are other texts than the named ones.

    The latter have `place`, `completion_id`, the key columns, and the cell.
    """
    shown = found.filter(pl.col("seen").is_not_null(), pl.col("completion_id").is_not_null(), ~pl.col("several"))
    shown = shown.select("place", "prompt_id", "policy_id", "sampler_id", kind=pl.lit("string"), text="seen")
    hashes = content_hashes(shown)
    other = shown.with_columns(hashes.alias("shown")).filter(pl.col("shown") != pl.col("sampler_id"))
    other = other.with_columns(sampler_id="shown")
    other = other.with_columns(completion_id=first_completion_ids(other))
    ids = found["completion_id"]
    seen = other.select("place", "completion_id", *KEY, "kind", "text")
    return (ids if other.is_empty() else ids.scatter(other["place"], other["completion_id"])), seen
