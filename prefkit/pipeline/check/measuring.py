"""What a check measures: log-probs of a version's completions and of the reference's own samples, all of them facts.

The own samples are drawn once, like any draw. Without a maker, facts are only read, as of given pins: that is how a
report is worked out again without a model.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from prefkit.errors import DamageError, LedgerError
from prefkit.pipeline.check.behind_system import Read, as_read, read_behind, store_behind
from prefkit.pipeline.check.logps import known_logps, unknown
from prefkit.pipeline.check.yardstick import Yardstick
from prefkit.pipeline.draws import SAMPLED, known_draws, planned_draws
from prefkit.pipeline.recipe import Kind
from prefkit.records import COMPLETIONS, LOGPS, PROMPTS, TRAINED
from prefkit.shift.data import ShiftData, shift_data
from prefkit.store.facts import FactStore, settled

PAIR_SIDES = ("chosen", "rejected")


class ReferenceMaker(Protocol):
    """Computes what a check misses."""

    def draw(self, keys: pl.DataFrame, prompts: pl.DataFrame) -> int:
        """Draws what is missing of the reference's own samples and returns how many that were."""
        ...

    def score(self, known: pl.DataFrame) -> int:
        """Works out the log-probs that are missing and returns how many completions that were."""
        ...


@dataclass(frozen=True, slots=True)
class Measured:
    """What the facts say."""

    draws: pl.DataFrame
    """Every planned sample of the reference's own, with its `outcome`."""
    sides: pl.DataFrame
    """The sides that were asked about, with `logps`, `tokens`, `cut`, `retokenised` and `sampling_logps`."""
    samples: pl.DataFrame
    """`prompt`, and the same columns of each of the reference's own samples."""
    overtaken: bool
    """Whether somebody else stored completions while the samples were drawn."""

    def data(self, sides: pl.DataFrame) -> ShiftData:
        """These sides, which are some of those measured, for the statistics."""
        # What the sampler said of all tokens has no counterpart in what is left of a completion, or of other tokens.
        comparable = ~(pl.col("cut") | pl.col("retokenised"))
        rows = sides.with_columns(
            sampling_logps=pl.when(comparable).then("sampling_logps"), staleness=pl.lit(None, pl.Int64)
        )
        return shift_data(rows.sort("row", "side"), self.samples)


def sides_of(rows: pl.DataFrame, kind: Kind) -> pl.DataFrame:
    """A line per completion of every row of a version: `row` (its place), `side`, ids, `source`."""
    frame = rows.with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    if kind == "subset":
        return frame.select("row", "prompt_id", "completion_id", "source", side=pl.lit("completion"))
    sides = [
        frame.select("row", "prompt_id", "source", completion_id=f"{side}_id", side=pl.lit(side)) for side in PAIR_SIDES
    ]
    return pl.concat(sides)


def numbered_prompts(prompt_ids: pl.Series) -> pl.DataFrame:
    """The different prompts, numbered: `prompt`, `prompt_id`. Their order is that of their ids."""
    return pl.DataFrame({"prompt_id": prompt_ids.unique().sort()}).with_row_index("prompt")


def measured(
    facts: FactStore,
    yardstick: Yardstick,
    sides: pl.DataFrame,
    prompts: pl.DataFrame,
    pins: dict[str, int],
    maker: ReferenceMaker | None,
) -> Measured:
    """Measures the sides, against samples of these prompts, which hold those of the sides.

    A maker computes what is missing, and the pins move to where it is. Raises DamageError when something is missing
    without one.
    """
    draws, overtaken = _drawn(facts, yardstick, prompts, pins, maker)
    samples = draws.filter(pl.col("outcome") == SAMPLED).select("completion_id", "prompt_id", "prompt")
    read = _read(facts, yardstick, prompts["prompt_id"], pins, maker)
    texts = pl.concat([x.select("completion_id", as_read("prompt_id", read)) for x in (sides, samples)])
    logps = _scored(facts, yardstick, texts.unique("completion_id", maintain_order=True), pins, maker)
    logps = logps.drop("prompt_id")
    sides = sides.join(prompts, on="prompt_id", how="left", maintain_order="left")
    drawn_from = _sampling_logps(facts, sides["completion_id"], pins[COMPLETIONS.name])
    sides = sides.join(drawn_from, on="completion_id", how="left", maintain_order="left")
    return Measured(
        draws,
        sides.join(logps, on="completion_id", how="left", maintain_order="left"),
        samples.join(logps, on="completion_id", how="left", maintain_order="left"),
        overtaken,
    )


def with_texts(facts: FactStore, completions: pl.DataFrame, at: int) -> pl.DataFrame:
    """The `prompt` and `text` of completions that carry `prompt` and `completion_id`, in their order."""
    columns = ["id", "batch_id", "transient", "attempt", "completion"]
    found = settled(facts.gather(COMPLETIONS, columns, completions["completion_id"].unique(), at))
    texts = found.select(completion_id="id", text=pl.col("completion").list.last().struct.field("content"))
    return completions.join(texts, on="completion_id", how="left", maintain_order="left").select("prompt", "text")


def _sampling_logps(facts: FactStore, completion_ids: pl.Series, at: int) -> pl.DataFrame:
    """`completion_id` and `sampling_logps`: under what each was drawn from; null where no sampler has said.

    A version holds the log-probs at T = 1, which a trainer needs. Where the temperature was another they are not those
    of the draw, and a sequence KL from them would be that of no distribution.
    """
    columns = ["id", "batch_id", "transient", "attempt", "sampling_logprobs"]
    found = settled(facts.gather(COMPLETIONS, columns, completion_ids.unique(), at))
    sums = pl.col("sampling_logprobs").list.eval(pl.element().cast(pl.Float64)).list.sum()
    return found.select(
        completion_id="id", sampling_logps=pl.when(pl.col("sampling_logprobs").is_not_null()).then(sums)
    )


def known_samples(facts: FactStore, yardstick: Yardstick, prompts: pl.DataFrame, at: Mapping[str, int]) -> pl.DataFrame:
    """Every planned sample of the reference's own, with what the facts say (see `known_draws`)."""
    block = yardstick.block
    return known_draws(facts, planned_draws(prompts, block), block, (), at[COMPLETIONS.name])


def _drawn(
    facts: FactStore, yardstick: Yardstick, prompts: pl.DataFrame, pins: dict[str, int], maker: ReferenceMaker | None
) -> tuple[pl.DataFrame, bool]:
    draws = known_samples(facts, yardstick, prompts, pins)
    overtaken = False
    if maker and (drawn := maker.draw(draws, prompts)):
        before = facts.count(COMPLETIONS, pins[COMPLETIONS.name])
        facts.compact(COMPLETIONS)
        pins[COMPLETIONS.name] = facts.heads()[COMPLETIONS.name]
        overtaken = facts.count(COMPLETIONS, pins[COMPLETIONS.name]) != before + drawn
        draws = known_samples(facts, yardstick, prompts, pins)
    _require(draws["outcome"].null_count(), draws.height, "samples of the reference", maker)
    return draws, overtaken


def _read(
    facts: FactStore, yardstick: Yardstick, prompt_ids: pl.Series, pins: dict[str, int], maker: ReferenceMaker | None
) -> Read:
    """The prompts as the reference reads them."""
    if maker is None:
        return read_behind(facts, prompt_ids, yardstick.system, pins[PROMPTS.name])
    read = store_behind(facts, prompt_ids, yardstick.system)
    pins[PROMPTS.name] = facts.heads()[PROMPTS.name]
    return read


def _scored(
    facts: FactStore, yardstick: Yardstick, texts: pl.DataFrame, pins: dict[str, int], maker: ReferenceMaker | None
) -> pl.DataFrame:
    known = known_logps(facts, yardstick, texts, pins)
    if maker and maker.score(known):
        for table in (TRAINED, LOGPS):
            facts.compact(table)
            pins[table.name] = facts.heads()[table.name]
        known = known_logps(facts, yardstick, texts, pins)
    _require(unknown(known).height, known.height, "log-probs", maker)
    return known


def _require(missing: int, planned: int, what: str, maker: ReferenceMaker | None) -> None:
    if missing and maker:
        raise LedgerError(f"{missing} of {planned} {what} have no fact after they were computed: nothing is published")
    if missing:
        raise DamageError(f"{missing} of {planned} {what} are not in the fact tables as pinned: build the recipe anew")
