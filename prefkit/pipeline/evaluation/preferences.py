"""Who wins: a preference for each completion of the policy over each one of the baseline for the same prompt.

By pairwise judges where the recipe has them, asked in both orders; else by the aggregated scores. Equal texts are a
tie, and nobody is asked.
"""

from collections.abc import Sequence

import polars as pl

from prefkit.errors import LedgerError
from prefkit.pipeline.comparing import Judge, candidate_pairs, known_comparisons, planned_comparisons
from prefkit.pipeline.stages import Maker
from prefkit.records import COMPARISONS
from prefkit.selection.config import DECIMALS
from prefkit.store.facts import FactStore

TIE = 0.5


def matches(policy: pl.DataFrame, baseline: pl.DataFrame) -> pl.DataFrame:
    """Every completion of the policy beside every one of the baseline for the same prompt.

    `prompt`, `source`, and of each side `candidate`, `text` and `reward`, those of the baseline as `..._baseline`.
    """
    columns = ["prompt", "candidate", "text", "reward"]
    known = policy.filter(pl.col("candidate").is_not_null()).select(*columns, "source")
    other = baseline.filter(pl.col("candidate").is_not_null()).select(columns)
    return known.join(other, on="prompt", suffix="_baseline", maintain_order="left_right")


def by_score(pairs: pl.DataFrame) -> pl.DataFrame:
    """The matches with `preference`: 1 where the policy's reward is higher, 0 where it is lower, a tie where they are
    equal, null where one of them is not known.
    """
    lead = (pl.col("reward") - pl.col("reward_baseline")).sign()
    same = pl.col("text") == pl.col("text_baseline")
    return pairs.with_columns(preference=pl.when(same).then(TIE).otherwise(TIE + lead / 2))


def by_judges(pairs: pl.DataFrame, preferences: pl.DataFrame, tie_band: float) -> pl.DataFrame:
    """The matches with `preference`: 1, 0 or a tie by what the judges together prefer, null where they do not say.

    `preferences` are those for `first` over `second`, two candidates, as `RatingStage.preferences` gives them. What
    is within `tie_band` of 1/2 is a tie.
    """
    told = preferences.select(candidate="first", candidate_baseline="second", judged="preference")
    turned = told.select(candidate="candidate_baseline", candidate_baseline="candidate", judged=1 - pl.col("judged"))
    found = pairs.join(
        pl.concat([told, turned]), on=["candidate", "candidate_baseline"], how="left", maintain_order="left"
    )
    lead = (pl.col("judged") - TIE).round(DECIMALS)
    verdict = pl.when(lead.abs() > tie_band).then(TIE + lead.sign() / 2).when(lead.is_not_null()).then(TIE)
    same = pl.col("text") == pl.col("text_baseline")
    return found.with_columns(preference=pl.when(same).then(TIE).otherwise(verdict)).drop("judged")


def judged_pairs(candidates: pl.DataFrame, blocks: int) -> pl.DataFrame:
    """What judges are asked to compare, in the columns of `candidate_pairs`: different texts of both sides.

    Where the same weights stand on both sides there is one of `blocks`, and all its pairs are asked.
    """
    pairs = candidate_pairs(candidates).filter(pl.col("text_a") != pl.col("text_b"))
    if blocks == 1:
        return pairs
    block = candidates["block"]
    return pairs.filter(block.gather(pairs["first"]) != block.gather(pairs["second"]))


def compared(
    judges: Sequence[Judge], pairs: pl.DataFrame, tasks: pl.DataFrame, facts: FactStore, maker: Maker
) -> list[pl.DataFrame]:
    """Per judge every comparison of these pairs with its outcome and preference, as `known_comparisons` gives them."""
    plans = [planned_comparisons(pairs, tasks, judge, None) for judge in judges]
    known = _known(judges, plans, facts)
    done = [maker.compare(judge, keys, tasks) for judge, keys in zip(judges, known, strict=True)]
    if any(keys.height for keys in done):
        known = _known(judges, plans, facts)
    missing = sum(keys["outcome"].null_count() for keys in known)
    if missing:
        raise LedgerError(f"{missing} comparisons have no fact after they were made, expected one for each")
    return known


def _known(judges: Sequence[Judge], plans: Sequence[pl.DataFrame], facts: FactStore) -> list[pl.DataFrame]:
    at = facts.heads()[COMPARISONS.name]
    return [known_comparisons(facts, plan, judge, at) for plan, judge in zip(plans, judges, strict=True)]
