"""What the check of a build would compute, without computing it.

Which rows are chosen is known when everything before the check is a fact. Until then every prompt may have a row and
every completion may be in one, so the numbers are upper bounds.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import polars as pl

from prefkit.pipeline.check.logps import known_logps, unknown
from prefkit.pipeline.check.measuring import known_samples, numbered_prompts, sides_of
from prefkit.pipeline.check.yardstick import Yardstick
from prefkit.pipeline.draws import SAMPLED, to_do
from prefkit.pipeline.imports.content import feeding
from prefkit.pipeline.resolve import Resolved
from prefkit.pipeline.stages import Stages
from prefkit.store.facts import FactStore


@dataclass(frozen=True, slots=True)
class CheckWork:
    """Samples of the reference's own, and completions to score under it: planned, and to do."""

    samples: tuple[int, int]
    logps: tuple[int, int]
    is_upper_bound: bool


def check_work(
    target: Resolved,
    yardstick: Yardstick,
    facts: FactStore,
    tasks: pl.DataFrame,
    candidates: pl.DataFrame,
    undrawn: int,
    complete: bool,
    retry: Collection[str],
) -> CheckWork:
    """The work of the check over the rows that will be chosen from the candidates, or at most that work.

    `undrawn` completions are still to come; `complete` says that all that comes before the check is a fact.
    """
    at = facts.heads()
    chosen = _chosen(target, facts, tasks, at) if complete else None
    if chosen is not None:
        texts = sides_of(chosen, target.recipe.kind).select("completion_id", "prompt_id").unique("completion_id")
        prompts = numbered_prompts(chosen["prompt_id"])
    else:
        texts = candidates.select("completion_id", "prompt_id")
        prompts = numbered_prompts(tasks["prompt_id"])
    samples = known_samples(facts, yardstick, prompts, at)
    missing = to_do(samples, retry)
    drawn = samples.filter(pl.col("outcome") == SAMPLED).select("completion_id", "prompt_id")
    left = unknown(known_logps(facts, yardstick, pl.concat([texts, drawn]), at)).height
    to_come = missing.height + undrawn
    planned = texts.height + drawn.height + to_come
    return CheckWork((samples.height, missing.height), (planned, left + to_come), chosen is None)


def _chosen(target: Resolved, facts: FactStore, tasks: pl.DataFrame, at: Mapping[str, int]) -> pl.DataFrame | None:
    """The rows that the check would see; None while the tasks are not those of the import there is."""
    stages = Stages(target, facts, feeding(facts, target.source), dict(at), maker=None)
    own = stages.prompts()
    if not own["prompt_id"].equals(tasks["prompt_id"]):
        return None
    return stages.chosen(own)
