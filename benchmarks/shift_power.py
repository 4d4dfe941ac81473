"""How near may a policy be to the reference and still be noticed? Policies at known sequence KL, five of each.

For every policy: the AUC of the row statistic (`surprise`, which off-support is a threshold of), of NLL per token, and
of the true log ratio, which no statistic of a row can beat (Neyman and Pearson 1933); and how often each test of a
version of 200 rows, one per prompt, with four own samples per prompt, says at the 5 % level that the rows are not the
reference's. The same tests on the reference's own rows give the false alarms.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from shift_models import (
    BOOTSTRAP,
    Policy,
    as_rows,
    demo_policy,
    demo_problems,
    digits,
    drawn,
    kept,
    make_problems,
    mean_of,
    scored,
)
from shift_tuning import KINDS, TARGETS, at_kl, lessons, tuned

from prefkit.shift.data import shift_data
from prefkit.shift.distances import auc
from prefkit.shift.divergence import effective_sample_share, k1, k3, log_ratios
from prefkit.shift.report import report
from prefkit.shift.scores import row_scores
from prefkit.shift.support import NOMINAL
from prefkit.shift.verdict import MAX_NLL_GAP, MAX_OFF_SUPPORT, Limits

SEEDS = 5
PROMPTS, DRAWS, OWN = 400, 2, 4
ROWS, VERSIONS, NULL_VERSIONS = 200, 20, 1000
ROUNDING = 1e-3
"""Nats per completion; log-probs of one text differ by less from one batch to another."""
LIMITS = Limits(MAX_OFF_SUPPORT, MAX_NLL_GAP)


def policy_draws(
    policy: Policy, pool: pl.DataFrame, problems: Sequence[make_problems.Problem], work: Path
) -> pl.DataFrame:
    """Scored draws of every policy, with its log-probs of as many draws of the reference; made once per seed."""
    asked = [problem.question for problem in problems[:PROMPTS]]
    return pl.concat(
        kept(work / f"{kind}-{seed}.parquet", partial(_draws, policy, pool, problems, asked, kind, seed))
        for kind in KINDS
        for seed in range(SEEDS)
    )


def _draws(
    policy: Policy,
    pool: pl.DataFrame,
    problems: Sequence[make_problems.Problem],
    asked: Sequence[str],
    kind: str,
    seed: int,
) -> pl.DataFrame:
    taught = lessons(kind, pool.filter(pl.col("prompt") >= PROMPTS), problems, seed)
    near = at_kl(policy, tuned(policy, taught, seed), asked, seed)
    own = pool.filter((pl.col("prompt") < PROMPTS) & (pl.col("draw") < DRAWS))
    frames: list[pl.DataFrame] = []
    for target, other in near.items():
        theirs = scored(policy.reference, drawn(other, asked, range(DRAWS), seed + 1000), asked, 256)
        back = scored(other.reference, own.drop("logps", "tokens", "cut"), asked, 256)
        ours = own.with_columns(behavior_logps=back["logps"])
        for name, frame in (("policy", theirs), ("reference", ours)):
            frames.append(
                frame.with_columns(kind=pl.lit(kind), seed=pl.lit(seed), target=pl.lit(target), by=pl.lit(name))
            )
    return pl.concat(frames)


def one_policy(frame: pl.DataFrame, pool: pl.DataFrame, generator: np.random.Generator) -> dict[str, float]:
    """KL, AUCs, and the share of versions that each test notices."""
    rows, own = frame.filter(by="policy"), frame.filter(by="reference")
    ratio = log_ratios(rows["logps"].to_numpy(), rows["behavior_logps"].to_numpy())
    back = log_ratios(own["logps"].to_numpy(), own["behavior_logps"].to_numpy())
    yardstick = pool.filter(pl.col("draw").is_between(DRAWS, DRAWS + OWN - 1))
    scores = row_scores(shift_data(pl.concat([as_rows(rows), as_rows(own)]), yardstick))
    is_row = np.arange(scores.rows.height) < rows.height
    surprise, nll = scores.rows["surprise"].to_numpy(), scores.rows["nll"].to_numpy()
    noticed = [_noticed(rows, pool, generator) for _ in range(VERSIONS)]
    return {
        "kl_k1": float(k1(ratio).mean()),
        "kl_k3": float(k3(ratio).mean()),
        "effective_sample": effective_sample_share(ratio),
        "auc_surprise": auc(surprise[is_row], surprise[~is_row]),
        "auc_nll": auc(nll[is_row], nll[~is_row]),
        "auc_log_ratio": auc(-ratio, -back),
        "off_support": float(scores.rows["off_support"].to_numpy()[is_row].mean()),
        **{f"noticed_{name}": float(np.mean([found[name] for found in noticed])) for name in noticed[0]},
    }


def _noticed(rows: pl.DataFrame, pool: pl.DataFrame, generator: np.random.Generator) -> dict[str, bool]:
    """What each test says of one version: a random draw of each of 200 random prompts."""
    prompts = generator.choice(rows["prompt"].unique().sort().to_numpy(), ROWS, replace=False)
    some = rows.filter(pl.col("prompt").is_in(prompts)).sample(
        fraction=1, shuffle=True, seed=int(generator.integers(2**31))
    )
    version = some.unique("prompt", keep="first", maintain_order=True)
    others = np.setdiff1d(pool["draw"].unique().to_numpy(), rows["draw"].unique().to_numpy())
    own = pool.filter(
        pl.col("prompt").is_in(prompts) & pl.col("draw").is_in(generator.choice(others, OWN, replace=False))
    )
    found = report(shift_data(as_rows(version), own), LIMITS, bootstrap=BOOTSTRAP)
    side = found.overall.sides[0]
    against = side.against_samples
    assert against is not None
    assert side.divergence is not None
    return {
        "told_apart": against.told_apart.p_value < 0.05,
        "nll_gap": against.nll_gap.low > 0 or against.nll_gap.high < 0,
        "auc": against.auc.low > 0.5 or against.auc.high < 0.5,
        "off_support": side.off_support.low > NOMINAL,
        "sequence_kl": side.divergence.k1.low > ROUNDING,
        "gate": not found.passed,
    }


def false_alarms(pool: pl.DataFrame) -> dict[str, dict[str, float | int]]:
    """Shares of versions of the reference's own rows that each test notices, with intervals over versions."""
    generator = np.random.default_rng(0)
    found: list[dict[str, bool]] = []
    for _ in range(NULL_VERSIONS):
        few = generator.choice(pool["draw"].unique().to_numpy(), DRAWS, replace=False)
        found.append(_noticed(pool.filter(pl.col("draw").is_in(few)), pool, generator))
    return {name: mean_of([float(one[name]) for one in found]) for name in found[0]}


def power(work: Path, pool: pl.DataFrame) -> dict[str, object]:
    """Every policy, and means with intervals over the seeds."""
    policy, problems = demo_policy(), demo_problems(pool["prompt"].n_unique())
    frame = policy_draws(policy, pool, problems, work)
    near = pool.filter(pl.col("prompt") < PROMPTS)
    policies: list[dict[str, object]] = []
    for kind in KINDS:
        for target in TARGETS:
            of = [frame.filter(kind=kind, target=target, seed=seed) for seed in range(SEEDS)]
            found = [one_policy(one, near, np.random.default_rng([seed, 7])) for seed, one in enumerate(of)]
            policies.append({"kind": kind, "target_kl": target, **_over_seeds(found)})
    return {
        "rows": ROWS, "versions_of_a_policy": VERSIONS, "null_versions": NULL_VERSIONS,
        "level": 0.05, "false_alarms": false_alarms(pool), "policies": policies,
    }  # fmt: skip


def _over_seeds(found: Sequence[Mapping[str, float]]) -> dict[str, object]:
    means = {name: mean_of([one[name] for one in found]) for name in found[0]}
    return {**means, "seeds": [{name: digits(value) for name, value in one.items()} for one in found]}
