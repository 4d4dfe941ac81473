"""Completions of the tables: their ids, and the names under which ratings find them.

An imported completion is identified by its prompt, its model, its messages and, where a file tells equal texts apart,
by which of them it is. A file does so by keys, and by listing completions and nothing else: then every row is a sample
of its own. In rows that also rate or compare, equal texts are one completion, so that what several annotators or
several pairs say of it meets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from prefkit.records import IMPORTED_POLICY
from prefkit.row_keys import completion_ids, name_words
from prefkit.sources.linking.messages import completion_refusal, content_hashes
from prefkit.sources.linking.prompts import LinkedPrompts
from prefkit.sources.linking.records import OUTCOMES, first_of, rates, records, same_as
from prefkit.sources.outcomes import ImportOutcome
from prefkit.sources.shaped import Shaped

UNKNOWN_MODEL = "unknown"
KEY = ("prompt_id", "policy_id", "sampler_id")
NAMED = {"prompt_id": pl.Binary(), "key": pl.String(), "completion_id": pl.Binary(),
    "policy_id": pl.String(), "sampler_id": pl.Int64()}  # fmt: skip
"""Completions by the names they have within their prompts."""


@dataclass(frozen=True, slots=True)
class LinkedCompletions:
    """What became of the completions."""

    completions: pl.DataFrame
    """`id`, its key columns, and the cell: `kind` and `text`."""
    slots: pl.DataFrame
    """`table`, `row`, `slot` to `prompt_id`, `completion_id`, `policy_id` and `sampler_id`."""
    named: pl.DataFrame
    """The columns of NAMED. One key may name several completions, and one completion have several keys or none."""
    outcomes: pl.DataFrame


def linked_completions(tables: Sequence[Shaped], prompts: LinkedPrompts) -> LinkedCompletions:
    """The completions of the tables, whose prompts are linked."""
    own = {number: not rates(table) for number, table in enumerate(tables)}
    rows = prompts.of(records(tables, "completions"))
    rows = _judged(rows).with_columns(
        pl.concat_str(pl.lit(IMPORTED_POLICY), pl.col("model").fill_null(UNKNOWN_MODEL)).alias("policy_id"),
        own=pl.col("table").replace_strict(own, return_dtype=pl.Boolean),
        place=pl.int_range(pl.len()),
    )
    usable = _numbered(rows.filter(pl.col("outcome").is_null()))
    again, where = same_as("completion_id")
    outcome, detail = first_of(
        [(again, ImportOutcome.DUPLICATE, where), (pl.lit(value=True), ImportOutcome.IMPORTED, None)]
    )
    usable = usable.with_columns(outcome, detail)
    named = usable.select(pl.coalesce("key", "model").alias("key"), *(c for c in NAMED if c != "key"))
    new = usable.filter(pl.col("outcome") == ImportOutcome.IMPORTED)
    ends = pl.concat([f.select("table", "row", "outcome", "detail") for f in (usable, rows.filter(_is_refused()))])
    return LinkedCompletions(
        new.select("sample_index", "kind", "text", *KEY, id="completion_id"),
        usable.filter(pl.col("slot").is_not_null()).select("table", "row", "slot", "completion_id", *KEY),
        named.select(NAMED.keys()).unique(["completion_id", "key"], maintain_order=True),
        ends.with_columns(what=pl.lit("completions")).select(OUTCOMES.keys()),
    )


def first_completion_ids(rows: pl.DataFrame) -> pl.Series:
    """The ids of completions that are the first of their content, from `prompt_id`, `policy_id` and `sampler_id`."""
    return _ids(rows, np.zeros(rows.height, np.int32))


def _is_refused() -> pl.Expr:
    return pl.col("outcome").is_not_null()


def _judged(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with their `sampler_id`, and `outcome` and `detail` where they cannot be imported."""
    plain = (pl.col("kind") == "string") & pl.col("text").is_not_null()
    odd = rows.with_row_index("place").filter(~plain.fill_null(value=False)).select("place", "kind", "text")
    refusals = [(p, r.outcome, r.detail) for p, k, t in odd.iter_rows() if (r := completion_refusal(k, t))]
    found = pl.DataFrame(
        refusals, schema={"place": pl.UInt32, "refusal": pl.String, "why": pl.String}, orient="row"
    )  # fmt: skip
    rows = rows.with_row_index("place").join(found, on="place", how="left", maintain_order="left")
    no_prompt = pl.format("the prompt {} was not imported, or is unknown", pl.col("prompt").str.slice(0, 80))
    unknown = pl.when(pl.col("prompt_id").is_null())
    rows = rows.with_columns(
        outcome=pl.coalesce("refusal", unknown.then(pl.lit(ImportOutcome.UNKNOWN_PROMPT.value))),
        detail=pl.when(pl.col("refusal").is_not_null()).then("why").otherwise(unknown.then(no_prompt)),
    )
    usable = pl.col("outcome").is_null()
    hashes = content_hashes(rows.filter(usable))
    places = rows.select(usable.arg_true()).to_series()
    return rows.drop("place", "refusal", "why").with_columns(
        sampler_id=pl.zeros(rows.height, pl.Int64, eager=True).scatter(places, hashes)
    )


def _numbered(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with their `sample_index` and `completion_id`."""
    rows = rows.with_columns(first=first_completion_ids(rows))
    keyed = pl.col("key").is_not_null()
    # What tells equal texts apart: a key, or being a row of its own; null where nothing does. Either counts from 0, so
    # that a text listed in one table and keyed in another is one completion.
    apart = pl.when(keyed).then("key").when("own").then(pl.col("place").cast(pl.String))
    rows = rows.with_columns(keyed.alias("keyed"), apart.alias("apart"))
    told = ["first", "keyed", "apart"]
    seen = rows.filter(pl.col("apart").is_not_null()).select(told).unique(maintain_order=True)
    index = pl.int_range(pl.len(), dtype=pl.Int32).over("first", "keyed")
    rows = rows.join(seen.with_columns(sample_index=index), on=told, how="left", maintain_order="left")
    rows = rows.with_columns(pl.col("sample_index").fill_null(0))
    later = rows.filter(pl.col("sample_index") > 0)
    places = rows.select((pl.col("sample_index") > 0).arg_true()).to_series()
    ids = (
        rows["first"]
        if later.is_empty()
        else rows["first"].scatter(places, _ids(later, later["sample_index"].to_numpy()))
    )
    return rows.with_columns(completion_id=ids).drop(*told)


def _ids(rows: pl.DataFrame, indexes: np.ndarray) -> pl.Series:
    policies = name_words("policy", rows["policy_id"].to_arrow(compat_level=pl.CompatLevel.oldest()))
    samplers = rows["sampler_id"].to_numpy()
    ids = completion_ids(rows["prompt_id"].to_arrow(), policies, 0, samplers, indexes)
    return pl.Series("completion_id", ids, dtype=pl.Binary)
