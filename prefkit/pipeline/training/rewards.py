"""What the draws of a micro-batch were worth: sums over all that were labelled, so that sums can be added up."""

import polars as pl

REWARD, ASPECT = "reward", "reward_aspect"
_SAID = ("prompt_id", "text")


def reward_sums(candidates: pl.DataFrame, sources: pl.Series, draws: pl.DataFrame) -> dict[str, tuple[float, float]]:
    """By name the sum over the draws that have a finite value, and how many they are; names without any are left out.

    `reward` is the `score` by which rows are selected, and `reward/<source>` the same by the prompt's source, which
    `sources` has by number of the prompt; `reward_aspect/<aspect>` is one of the `scores` per aspect. Of `draws`
    (`prompt_id`, `text`) that say the same hygiene leaves one candidate: it counts for all of them, so that means are
    over what the policy says. Where completions are only compared there is no reward.
    """
    said = draws.group_by(_SAID).len("draws")
    scored = candidates.join(said, on=_SAID, how="left", maintain_order="left").select(
        "score",
        "scores",
        source=sources.gather(candidates["prompt"]),
        weight=pl.col("draws").fill_null(0) / pl.len().over(_SAID),
    )
    found = {REWARD: _sum(scored["score"], scored["weight"])}
    for part in scored.drop_nulls("source").partition_by("source", maintain_order=True):
        found[f"{REWARD}/{part['source'][0]}"] = _sum(part["score"], part["weight"])
    for aspect in scored["scores"].struct.unnest():
        found[f"{ASPECT}/{aspect.name}"] = _sum(aspect, scored["weight"])
    return {name: (total, weight) for name, (total, weight) in sorted(found.items()) if weight}


def _sum(values: pl.Series, weights: pl.Series) -> tuple[float, float]:
    known = values.is_finite().fill_null(False)
    kept = weights.filter(known)
    return float((values.filter(known) * kept).sum()), float(kept.sum())
