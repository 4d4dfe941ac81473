"""The rows of a version: selected numbers turned back into prompts, texts, tokens and scores.

Text is gathered here, once, for the selected rows only. Columns carry TRL's names where TRL has one.
"""

from collections.abc import Mapping

import numpy as np
import polars as pl
import pyarrow as pa

from prefkit.errors import LedgerError
from prefkit.identity import id_words, mix64, row_ids
from prefkit.pipeline.recipe import Kind, SplitConfig
from prefkit.records import ID, MESSAGES
from prefkit.selection.config import DECIMALS

TRAIN, TEST = "train", "test"
TOKENS = pa.list_(pa.int32())


def scores_type(aspects: list[str]) -> pa.DataType:
    """The type of a completion's scores: one float per aspect."""
    return pa.struct([(a, pa.float64()) for a in aspects])


def pair_schema(aspects: list[str]) -> pa.Schema:
    """The columns of a version of pairs."""
    return pa.schema(
        [
            ("pair_id", ID), ("prompt_id", ID), ("prompt", MESSAGES), ("chosen", MESSAGES), ("rejected", MESSAGES),
            ("chosen_id", ID), ("rejected_id", ID), ("chosen_token_ids", TOKENS), ("rejected_token_ids", TOKENS),
            ("behavior_chosen_logps", pa.float64()), ("behavior_rejected_logps", pa.float64()),
            ("chosen_scores", scores_type(aspects)), ("rejected_scores", scores_type(aspects)),
            ("chosen_score", pa.float64()), ("rejected_score", pa.float64()), ("score_margin", pa.float64()),
            ("source", pa.string()), ("answer", pa.string()),
            ("chosen_policy_id", pa.string()), ("rejected_policy_id", pa.string()),
            ("chosen_policy_version", pa.int64()), ("rejected_policy_version", pa.int64()),
        ]
    )  # fmt: skip


def subset_schema(aspects: list[str]) -> pa.Schema:
    """The columns of a version of single completions."""
    return pa.schema(
        [
            ("row_id", ID), ("prompt_id", ID), ("prompt", MESSAGES), ("completion_id", ID), ("completion", MESSAGES),
            ("completion_token_ids", TOKENS), ("behavior_logps", pa.float64()), ("scores", scores_type(aspects)),
            ("score", pa.float64()), ("label", pa.bool_()), ("weight", pa.float64()),
            ("source", pa.string()), ("answer", pa.string()),
            ("policy_id", pa.string()), ("policy_version", pa.int64()),
        ]
    )  # fmt: skip


REF_LOGPS: Mapping[Kind, Mapping[str, str]] = {
    "pairs": {"chosen": "ref_chosen_logps", "rejected": "ref_rejected_logps"},
    "subset": {"completion": "ref_logps"},
}
"""By side, the column with the reference's log-probs: of versions that store them, after all others."""


def with_ref_logps(rows: pl.DataFrame, sides: pl.DataFrame, kind: Kind) -> pl.DataFrame:
    """The rows with the reference's log-probs; `sides` has `row` (the place), `side` and `logps`."""
    found = [sides.filter(side=side).sort("row")["logps"].alias(name) for side, name in REF_LOGPS[kind].items()]
    return rows.with_columns(found)


def pair_rows(pairs: pl.DataFrame, tasks: pl.DataFrame, completions: pl.DataFrame) -> pl.DataFrame:
    """The rows of pairs (`prompt`, `chosen`, `rejected`, `score_margin` as numbers).

    `completions` are those of the pairs: `candidate`, `prompt`, `completion_id`, `completion`, `token_ids`,
    `behavior_logps`, `scores`, `score`, `policy_id`, `policy_version`. Raises LedgerError when a pair crosses prompts.
    """
    chosen = _side(pairs, "chosen", completions)
    rejected = _side(pairs, "rejected", completions)
    if not (chosen["prompt"].equals(pairs["prompt"]) and rejected["prompt"].equals(pairs["prompt"])):
        raise LedgerError(
            "a pair has completions of another prompt: no version is written; this is a bug, please report it"
        )
    columns = {
        "completion_id": "{}_id", "completion": "{}", "token_ids": "{}_token_ids",
        "behavior_logps": "behavior_{}_logps", "scores": "{}_scores", "score": "{}_score",
        "policy_id": "{}_policy_id", "policy_version": "{}_policy_version",
    }  # fmt: skip
    sides = [
        side.select(pl.col(c).alias(n.format(name)) for c, n in columns.items())
        for name, side in (("chosen", chosen), ("rejected", rejected))
    ]
    task = tasks[pairs["prompt"]].select("prompt_id", pl.col("messages").alias("prompt"), "source", "answer")
    rows = pl.concat([task, *sides, pairs.select("score_margin")], how="horizontal")
    ids = row_ids(id_words(rows["chosen_id"].to_arrow()), id_words(rows["rejected_id"].to_arrow()))
    return rows.with_columns(pair_id=pl.Series(pl.from_arrow(ids)))


def with_preferences(rows: pl.DataFrame, pairs: pl.DataFrame, preferences: pl.DataFrame) -> pl.DataFrame:
    """The rows of compared pairs with each judge's preference for a side in the scores of that side.

    `pairs` are the rows' `chosen` and `rejected` numbers; `preferences` has `first` < `second` and a column per judge,
    its preference for the first. Scores that are no preferences stay as they are.
    """
    judges = [name for name in preferences.columns if name not in ("first", "second", "preference")]
    both = pairs.select(first=pl.min_horizontal("chosen", "rejected"), second=pl.max_horizontal("chosen", "rejected"))
    found = both.join(preferences, on=["first", "second"], how="left", maintain_order="left")
    chosen_first = pairs["chosen"] < pairs["rejected"]
    columns: list[pl.Series] = []
    for side, is_first in (("chosen", chosen_first), ("rejected", ~chosen_first)):
        scores = rows[f"{side}_scores"].struct.unnest()
        said = found.select(
            pl.when(is_first).then(pl.col(name)).otherwise((1 - pl.col(name)).round(DECIMALS)).alias(name)
            for name in judges
        )
        columns.append(scores.with_columns(said.get_columns()).to_struct(f"{side}_scores"))
    return rows.with_columns(columns)


def subset_rows(selected: pl.DataFrame, tasks: pl.DataFrame, completions: pl.DataFrame) -> pl.DataFrame:
    """The rows of single completions (`prompt`, `candidate`, `label`, `weight`); `completions` as in `pair_rows`."""
    own = _side(selected, "candidate", completions)
    task = tasks[selected["prompt"]].select("prompt_id", pl.col("messages").alias("prompt"), "source", "answer")
    columns = own.select(
        "completion_id", "completion", "behavior_logps", "scores", "score", "policy_id", "policy_version",
        pl.col("token_ids").alias("completion_token_ids"), pl.col("completion_id").alias("row_id"),
    )  # fmt: skip
    return pl.concat([task, columns, selected.select("label", "weight")], how="horizontal")


def _side(rows: pl.DataFrame, side: str, completions: pl.DataFrame) -> pl.DataFrame:
    return rows.select(candidate=side).join(completions, on="candidate", how="left", maintain_order="left")


def split_of(tasks: pl.DataFrame, config: SplitConfig) -> pl.Series:
    """The split of each task: its own `split` where that is `train` or `test`, else by a keyed draw of its prompt."""
    low = id_words(tasks["prompt_id"].to_arrow())[:, 0]
    draw = mix64(low ^ mix64(np.array([config.seed + 1], np.uint64))) / np.float64(2**64)
    drawn = pl.Series(np.where(draw < config.test, TEST, TRAIN))
    own = tasks["split"]
    return pl.select(split=pl.when(own.is_in([TRAIN, TEST])).then(own).otherwise(drawn)).to_series()


def to_arrow(rows: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    """The rows in exactly these columns and types."""
    return rows.select(schema.names).to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema)


def wide_scores(labels: list[pl.DataFrame], shapes: list[tuple[tuple[str, ...], int]]) -> pl.DataFrame:
    """One Float64 column per aspect, a row per candidate: the mean over the repeats that have a score, else null.

    Each frame of `labels` has, for every candidate in order, its (aspect, repeat) rows in order; `shapes` gives each
    frame's aspects and repeats.
    """
    columns: dict[str, pl.Series] = {}
    for frame, (aspects, repeats) in zip(labels, shapes, strict=True):
        block = frame["score"].to_numpy().reshape(-1, len(aspects), repeats)
        known = ~np.isnan(block)
        counts = known.sum(axis=2)
        means = np.where(known, block, 0.0).sum(axis=2) / np.maximum(counts, 1)
        for index, aspect in enumerate(aspects):
            values = pl.Series(aspect, means[:, index])
            columns[aspect] = (
                values.set(pl.Series(counts[:, index] == 0), None) if (counts[:, index] == 0).any() else values
            )
    return pl.DataFrame(columns)
