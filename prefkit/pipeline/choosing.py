"""Choosing: from labelled candidates to the rows of a version by split, each step booked in the ledger."""

from dataclasses import dataclass

import polars as pl

from prefkit.hygiene.outcomes import pair_outcomes
from prefkit.identity import id_words, row_ids
from prefkit.ledger import Ledger
from prefkit.pipeline.completions import with_bodies
from prefkit.pipeline.outcomes import Dropped, with_prompt_id
from prefkit.pipeline.prompts import KEPT
from prefkit.pipeline.recipe import Recipe
from prefkit.pipeline.rows import TEST, TRAIN, pair_rows, split_of, subset_rows, with_preferences
from prefkit.records import COMPLETIONS
from prefkit.selection.outcomes import RowOutcome, Selection
from prefkit.selection.strategies import select
from prefkit.store.facts import FactStore


@dataclass(frozen=True, slots=True)
class Labelled:
    """What may be selected: numbered candidates, and what was said about them."""

    candidates: pl.DataFrame
    """With `scores` per aspect and their aggregated `score`."""
    preferences: pl.DataFrame | None
    """Per compared pair of candidates `first` < `second` one column per scorer, and `preference`."""


@dataclass(frozen=True, slots=True)
class Choosing:
    """The stages after labelling."""

    recipe: Recipe
    facts: FactStore
    pins: dict[str, int]
    ledger: Ledger
    dropped: Dropped

    def splits(self, labelled: Labelled, tasks: pl.DataFrame) -> dict[str, pl.DataFrame]:
        """The rows of the version by split, without a check."""
        return self.split(self.rows(labelled, tasks), tasks)

    def rows(self, labelled: Labelled, tasks: pl.DataFrame) -> pl.DataFrame:
        """The rows that were selected and passed hygiene."""
        return self._rows(self._select(labelled, tasks), labelled, tasks)

    def split(self, rows: pl.DataFrame, tasks: pl.DataFrame) -> dict[str, pl.DataFrame]:
        """The rows by split."""
        splits = tasks.select("prompt_id", split_of(tasks, self.recipe.split))
        rows = rows.join(splits, on="prompt_id", how="left", maintain_order="left")
        self.ledger.add("version", "row", self.ledger.accounts[-1].kept, rows["split"], [TRAIN, TEST])
        parts = {name: rows.filter(pl.col("split") == name).drop("split") for name in (TRAIN, TEST)}
        return {name: part for name, part in parts.items() if name == TRAIN or part.height}

    def _select(self, labelled: Labelled, tasks: pl.DataFrame) -> Selection:
        """What the strategy selects, by number."""
        candidates = labelled.candidates
        columns = candidates.select(
            "prompt",
            "candidate",
            "score",
            pl.col("completion_id").bin.slice(0, 8).bin.reinterpret(dtype=pl.UInt64, endianness="little").alias("key"),
            pl.col("text").str.len_chars().cast(pl.UInt32).alias("length"),
            source=tasks["source"].gather(candidates["prompt"]),
        )
        compared = self._compared(labelled)
        selection = select(columns, self.recipe.select, prompts=tasks.height, comparisons=compared)
        self.ledger.add(
            "select", "prompt", self.ledger.kept("prompt hygiene"), selection.prompts["outcome"], [RowOutcome.SELECTED]
        )
        unselected = selection.prompts.filter(pl.col("outcome").cast(pl.String) != RowOutcome.SELECTED)
        self.dropped.add("select", with_prompt_id(unselected, tasks).with_columns(id="prompt_id"))
        unit = self._row_unit()
        planned = self.ledger.kept("completion hygiene") if unit == "completion" else selection.rows.height
        self.ledger.add("select rows", unit, planned, selection.rows["outcome"], [RowOutcome.SELECTED])
        told = selection.rows.filter(
            ~pl.col("outcome").cast(pl.String).is_in([RowOutcome.SELECTED, RowOutcome.NOT_SELECTED])
        )
        self.dropped.add("select rows", self._named_rows(told, candidates, tasks))
        return selection

    def _compared(self, labelled: Labelled) -> pl.DataFrame | None:
        if labelled.preferences is None:
            return None
        pairs = labelled.preferences.select("preference", a="first", b="second")
        return pairs.with_columns(prompt=labelled.candidates["prompt"].gather(pairs["a"]))

    def _rows(self, selection: Selection, labelled: Labelled, tasks: pl.DataFrame) -> pl.DataFrame:
        """The selected rows with their texts, tokens and scores; pairs of equal texts are dropped."""
        selected, candidates = selection.selected, labelled.candidates
        sides = ["chosen", "rejected"] if "chosen" in selected.columns else ["candidate"]
        used = pl.concat([selected.select(candidate=side) for side in sides]).unique().sort("candidate")
        texts = with_bodies(self.facts, candidates[used["candidate"]], self.pins[COMPLETIONS.name])
        if sides == ["candidate"]:
            return subset_rows(selected, tasks, texts)
        rows = pair_rows(selected, tasks, texts)
        if labelled.preferences is not None:
            rows = with_preferences(rows, selected, labelled.preferences)
        by_number = texts.select("candidate", "text")
        both = [
            selected.select(candidate=side).join(by_number, on="candidate", how="left", maintain_order="left")["text"]
            for side in sides
        ]
        rows = rows.with_columns(outcome=pair_outcomes(*both).cast(pl.String).fill_null(KEPT))
        self.ledger.add("pair hygiene", "pair", self.ledger.kept("select rows"), rows["outcome"], [KEPT])
        self.dropped.add("pair hygiene", rows.filter(pl.col("outcome") != KEPT).with_columns(id="pair_id"))
        return rows.filter(pl.col("outcome") == KEPT).drop("outcome")

    def _row_unit(self) -> str:
        return "candidate pair" if self.recipe.kind == "pairs" else "completion"

    def _named_rows(self, rows: pl.DataFrame, candidates: pl.DataFrame, tasks: pl.DataFrame) -> pl.DataFrame:
        ids = candidates["completion_id"]
        if "chosen" not in rows.columns:
            return with_prompt_id(rows.with_columns(id=ids.gather(rows["candidate"])), tasks)
        words = [id_words(ids.gather(rows[side]).to_arrow()) for side in ("chosen", "rejected")]
        return with_prompt_id(rows.with_columns(id=pl.Series(pl.from_arrow(row_ids(*words)))), tasks)
