"""`linked`: everything the tables of an import hold, by id, with one outcome for every record."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from prefkit.errors import LedgerError
from prefkit.sources.linking.completions import KEY, NAMED, LinkedCompletions, linked_completions
from prefkit.sources.linking.prompts import LinkedPrompts, linked_prompts
from prefkit.sources.linking.ratings import LinkedRatings, linked_comparisons, linked_scores
from prefkit.sources.linking.records import EVERYWHERE, OUTCOMES, SCHEMAS, records, refused
from prefkit.sources.linking.references import nameable
from prefkit.sources.outcomes import ImportOutcome
from prefkit.sources.shaped import Shaped

PROMPT_KEYS = {"key": pl.String(), "prompt_id": pl.Binary()}


@dataclass(frozen=True, slots=True)
class Known:
    """What earlier imports offer to this one; nothing by default."""

    prompt_keys: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=PROMPT_KEYS))
    """`key` and `prompt_id`."""
    prompt_ids: pl.Series = field(default_factory=lambda: pl.Series(dtype=pl.Binary))
    """The prompts that have tasks."""
    completions: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=NAMED))
    """What keys their completions have: `prompt_id`, `key`, `completion_id`, `policy_id` and `sampler_id`."""


@dataclass(frozen=True, slots=True)
class Linked:
    """What the tables of an import hold. Frames have the columns of their fact tables, as far as an import fills them.

    Completions have their cell (`kind` and `text`) in place of their messages; `fact_parts` makes facts of them.
    """

    source: str
    prompts: pl.DataFrame
    tasks: pl.DataFrame
    completions: pl.DataFrame
    """Those that only a scorer saw come last."""
    scores: pl.DataFrame
    comparisons: pl.DataFrame
    scorers: pl.DataFrame
    """`name` and `scorer_id` of everyone who rated."""
    prompt_keys: pl.DataFrame
    """`key` and `prompt_id`: what the files call the prompts, for other imports."""
    completion_keys: pl.DataFrame
    """`completion_id` and `key` of every completion, the key null where the files have none."""
    outcomes: pl.DataFrame
    """`table` (name), `what`, `row`, `outcome` and `detail`: one row per record, in the order of the files."""

    def counts(self) -> dict[str, dict[str, int]]:
        """Records by kind and outcome, for what occurs."""
        return counted(self.outcomes)


def counted(outcomes: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Records by kind and outcome, for what occurs; `imported` comes first, then the most frequent."""
    found = outcomes.group_by("what", "outcome").len().sort(
        pl.col("outcome") != ImportOutcome.IMPORTED, -pl.col("len").cast(pl.Int64), "outcome"
    )  # fmt: skip
    counts: dict[str, dict[str, int]] = {what: {} for what in SCHEMAS}
    for what, outcome, count in found.iter_rows():
        counts[what][outcome] = count
    return {what: of for what, of in counts.items() if of}


def linked(tables: Sequence[Shaped], source: str, known: Known) -> Linked:
    """What the tables hold as a source of that name; `known` is what keys may mean beyond the tables themselves."""
    prompts = linked_prompts(tables, source, known.prompt_keys, known.prompt_ids)
    completions = linked_completions(tables, prompts)
    names = nameable(completions, known.completions)
    ratings = [linked_scores(tables, prompts, completions, names)]
    ratings.append(linked_comparisons(tables, prompts, completions, names))
    scores, comparisons = ratings
    seen = _only_seen(completions, ratings)
    return Linked(
        source,
        prompts.prompts,
        prompts.tasks,
        pl.concat([f.select("id", *KEY, "sample_index", "kind", "text") for f in (completions.completions, seen)]),
        scores.ratings,
        comparisons.ratings,
        pl.concat([r.scorers for r in ratings]).unique(maintain_order=True),
        _own_keys(prompts, known),
        pl.concat(
            [
                completions.named.select("completion_id", "key"),
                seen.select(completion_id="id", key=pl.lit(None, pl.String)),
            ]
        ),
        _outcomes(tables, [prompts.outcomes, completions.outcomes, *(r.outcomes for r in ratings)], seen),
    )


def _only_seen(completions: LinkedCompletions, ratings: Sequence[LinkedRatings]) -> pl.DataFrame:
    """The completions that scorers saw and no record holds."""
    seen = pl.concat([r.seen for r in ratings]).unique("id", maintain_order=True)
    new = seen.join(completions.completions.select("id"), on="id", how="anti", maintain_order="left")
    return new.with_columns(pl.lit(0, pl.Int32).alias("sample_index"))


def _seen_outcomes(seen: pl.DataFrame) -> pl.DataFrame:
    """What only a scorer saw is imported, though no record of the files holds it."""
    return seen.select(
        "table", "row", what=pl.lit("completions"), outcome=pl.lit(ImportOutcome.IMPORTED.value),
        detail=pl.lit("the text that the scorer saw"),
    ).select(OUTCOMES.keys())  # fmt: skip


def _own_keys(prompts: LinkedPrompts, known: Known) -> pl.DataFrame:
    own = prompts.keys.filter(pl.col("scope") == EVERYWHERE).select(PROMPT_KEYS.keys())
    return own.join(known.prompt_keys, on="key", how="anti", maintain_order="left")


def _outcomes(tables: Sequence[Shaped], parts: Sequence[pl.DataFrame], seen: pl.DataFrame) -> pl.DataFrame:
    """Every record's outcome, and those of what only scorers saw. Raises LedgerError where they do not add up."""
    ended = pl.concat([refused(tables), *parts])
    for what in SCHEMAS:
        there = records(tables, what).height + sum(t.refused.filter(pl.col("what") == what).height for t in tables)
        ends = ended.filter(pl.col("what") == what, pl.col("outcome").is_not_null()).height
        if there != ends:
            raise LedgerError(f"{there} {what} were read and {ends} have an outcome, expected all: nothing is imported")
    order = {what: place for place, what in enumerate(SCHEMAS)}
    ended = pl.concat([ended, _seen_outcomes(seen)])
    ended = ended.sort("table", pl.col("what").replace_strict(order, return_dtype=pl.Int8), "row", maintain_order=True)
    names = {number: table.name for number, table in enumerate(tables)}
    return ended.with_columns(pl.col("table").replace_strict(names, return_dtype=pl.String)).select(OUTCOMES.keys())
