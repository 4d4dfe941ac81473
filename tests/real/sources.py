"""Imported sources, and their facts in words: what every rating says, of which texts, by which models."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

import prefkit
from prefkit.api import Version
from prefkit.records import COMPARISONS, COMPLETIONS, CONFIGS, IMPORTED_POLICY, IMPORTS, PROMPTS, SCORES, FactTable
from prefkit.store.workspace import Workspace

_SAID = ("scorer", "aspect", "repeat", "failure", "rationale", "raw")


@dataclass(frozen=True)
class Source:
    """A workspace that holds one imported source."""

    name: str
    folder: Path
    outcomes: Mapping[str, Mapping[str, int]]

    def build(self, name: str, recipe: str) -> Version:
        """Builds a recipe over the source: its blocks but `name` and `prompts`."""
        path = self.folder / f"{name}.yaml"
        path.write_text(f"name: {name}\nprompts: {{imported: {self.name}}}\n{recipe}")
        return prefkit.build(path, workspace=self.folder)

    def facts(self, table: FactTable, *columns: str) -> pl.DataFrame:
        return Workspace.open(self.folder).facts.read(table, columns)

    @cached_property
    def completions(self) -> pl.DataFrame:
        """`id`, `prompt_id`, `prompt` and `text` (their messages' contents, a blank line between) and `model`."""
        prompts = self.facts(PROMPTS, "id", "messages").select(prompt_id="id", prompt=_words("messages"))
        found = self.facts(COMPLETIONS, "id", "prompt_id", "policy_id", "completion").select(
            "id", "prompt_id", text=_words("completion"), model=pl.col("policy_id").str.strip_prefix(IMPORTED_POLICY)
        )
        return found.join(prompts, on="prompt_id")

    @cached_property
    def scores(self) -> pl.DataFrame:
        """Every score with the `prompt`, `model` and `text` it is about."""
        said = self._said(SCORES, "completion_id", "score")
        about = self.completions.select("prompt", "model", "text", completion_id="id")
        return said.join(about, on="completion_id").drop("completion_id")

    @cached_property
    def comparisons(self) -> pl.DataFrame:
        """Every comparison with its `prompt`, and the model and text of both sides."""
        said = self._said(COMPARISONS, "completion_a", "completion_b", "preference", "order")
        a = self.completions.select("prompt", model_a="model", text_a="text", completion_a="id")
        b = self.completions.select(model_b="model", text_b="text", completion_b="id")
        return said.join(a, on="completion_a").join(b, on="completion_b").drop("completion_a", "completion_b")

    @cached_property
    def refused(self) -> pl.DataFrame:
        """Every record that is not held as it is: `table`, `what`, `row`, `outcome`, `detail`."""
        return self.facts(IMPORTS, "dropped").explode("dropped").unnest("dropped")

    def _said(self, table: FactTable, *columns: str) -> pl.DataFrame:
        scorers = self.facts(CONFIGS, "kind", "config_id", "name").filter(kind="scorer")
        asked = [name for name in _SAID if name != "scorer"]
        rows = self.facts(table, "scorer_id", *asked, *columns)
        return rows.join(scorers.select(scorer="name", scorer_id="config_id"), on="scorer_id").drop("scorer_id")


def oriented(comparisons: pl.DataFrame) -> pl.DataFrame:
    """Comparisons with their sides in the order of their texts, and of their models where the texts are equal."""
    same = pl.col("text_a") == pl.col("text_b")
    swapped = (pl.col("text_a") > pl.col("text_b")) | (same & (pl.col("model_a") > pl.col("model_b")))
    columns = [
        pl.when(swapped).then(f"{name}_{other}").otherwise(f"{name}_{side}").alias(f"{name}_{side}")
        for name in ("text", "model")
        for side, other in (("a", "b"), ("b", "a"))
    ]
    turned = pl.when(swapped).then(1 - pl.col("preference")).otherwise("preference")
    return comparisons.with_columns(*columns, preference=turned)


def rows_of(frame: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """The columns as a sorted frame with texts hashed, so that two frames with the same rows are equal."""
    hashed = frame.select(columns).with_columns(pl.col(pl.String).hash())
    return hashed.sort(pl.all())


def ledger(version: Version, stage: str) -> dict[str, int]:
    """What became of the keys of a stage."""
    told = version.ledger().filter(stage=stage)
    return dict(told.select("outcome", "count").iter_rows())


def pair_facts(version: Version, source: Source) -> pl.DataFrame:
    """The pairs of a version with what the facts say of both sides: `prompt_of_chosen`, `chosen_text`, ..."""
    rows = version.frame().select("prompt_id", "chosen_id", "rejected_id", "score_margin").collect()
    for side in ("chosen", "rejected"):
        about = source.completions.select(
            pl.col("id").alias(f"{side}_id"),
            pl.col("prompt_id").alias(f"prompt_of_{side}"),
            pl.col("text").alias(f"{side}_text"),
            pl.col("model").alias(f"{side}_model"),
        )
        rows = rows.join(about, on=f"{side}_id", how="left", maintain_order="left")
    return rows


def _words(messages: str) -> pl.Expr:
    return pl.col(messages).list.eval(pl.element().struct.field("content")).list.join("\n\n")
