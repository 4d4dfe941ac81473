"""`check`: a version against a reference model, on the prompts of the version.

The yardstick are the reference's own samples of the same prompts. They are drawn once, like any draw, and all log-probs
are facts: a second check of the same version computes nothing.
"""

from dataclasses import dataclass, field

import polars as pl

from prefkit.errors import SourceError
from prefkit.pipeline.completions import DRAW_COLUMNS
from prefkit.pipeline.draws import SAMPLED, Block, draw, known_draws, planned_draws, to_do
from prefkit.pipeline.logps import reference_logps
from prefkit.pipeline.progress import Progress
from prefkit.records import COMPLETIONS
from prefkit.sampling.config import PolicyConfig, TransformersSampler
from prefkit.sampling.registry import open_sampler, resolve_policy_id
from prefkit.shift.data import ShiftData, shift_data
from prefkit.shift.registry import Reference, open_reference
from prefkit.shift.report import ShiftReport, report
from prefkit.shift.scores import Scores, row_scores
from prefkit.shift.verdict import Limits
from prefkit.store.facts import settled
from prefkit.store.versions import Version
from prefkit.store.workspace import Workspace

TEXTS = ("completion_id", "prompt_id", "prompt", "completion", "token_ids")
SIDES = ("chosen", "rejected")


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """How a version is checked."""

    reference: Reference
    limits: Limits = field(default_factory=Limits)
    samples: int = 4
    """The reference's own completions per prompt."""
    max_new_tokens: int = 512
    """Longest of them."""
    max_length: int | None = 1024
    """Prompt and completion as trained; TRL's default."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found; `scores` has every row."""

    report: ShiftReport
    scores: Scores


def check(version: Version, workspace: Workspace, options: CheckOptions, progress: Progress) -> Checked:
    """Checks the version. Raises SourceError for a version without rows or a reference that cannot be read."""
    rows = _version_texts(version)
    if rows.is_empty():
        raise SourceError(f"version {version.label} has no rows, expected some: there is nothing to check")
    with workspace.shared():
        model = open_reference(options.reference, workspace.policy_cache)
        dtype = options.reference.dtype
        texts = rows.unique("completion_id", maintain_order=True)
        logps = reference_logps(workspace.facts, model, dtype, texts.select(TEXTS), options.max_length, progress)
        samples = _own_samples(workspace, texts, options, progress)
        own = reference_logps(workspace.facts, model, dtype, samples.select(TEXTS), options.max_length, progress)
    data = _data(rows.join(logps, on="completion_id", how="left"), samples.join(own, on="completion_id", how="left"))
    scores = row_scores(data, seed=options.seed)
    return Checked(report(data, options.limits, scores=scores), scores)


def _version_texts(version: Version) -> pl.DataFrame:
    """A line per completion of every row: the columns of TEXTS, `row`, `side`, `source`, `behavior_logps`."""
    frame = version.frame().collect().with_row_index("row")
    if version.content["kind"] == "subset":
        return frame.select(
            "row", "prompt_id", "prompt", "completion_id", "completion", "behavior_logps", "source",
            side=pl.lit("completion"), token_ids="completion_token_ids",
        )  # fmt: skip
    sides = [
        frame.select(
            "row", "prompt_id", "prompt",
            completion_id=f"{side}_id", completion=side, behavior_logps=f"behavior_{side}_logps", source="source",
            side=pl.lit(side), token_ids=f"{side}_token_ids",
        )
        for side in SIDES
    ]  # fmt: skip
    return pl.concat(sides)


def _own_samples(workspace: Workspace, texts: pl.DataFrame, options: CheckOptions, progress: Progress) -> pl.DataFrame:
    """The reference's own completions of the prompts, in the columns of TEXTS; drawn where they are missing."""
    facts = workspace.facts
    policy = PolicyConfig(
        model=options.reference.model,
        revision=options.reference.revision,
        trust_remote_code=options.reference.trust_remote_code,
    )
    config = TransformersSampler(
        backend="transformers", policy=policy, n=options.samples, max_new_tokens=options.max_new_tokens,
        seed=options.seed, dtype=options.reference.dtype, device=options.reference.device,
    )  # fmt: skip
    block = Block(0, resolve_policy_id(config, None, workspace.policy_cache), 0, config.sampler_id, config.n)
    prompts = (
        texts.select("prompt_id", messages="prompt").unique("prompt_id").sort("prompt_id").with_row_index("prompt")
    )
    plan = planned_draws(prompts, block)
    keys = known_draws(facts, plan, block, DRAW_COLUMNS, facts.heads()[COMPLETIONS.name])
    missing = to_do(keys, ())
    progress.stage("own samples", keys.height, missing.height)
    if missing.height:
        requests = missing.select("prompt_id", "sample_index", "completion_id", "attempt")
        requests = requests.with_columns(messages=prompts["messages"].gather(missing["prompt"]))
        draw(facts, open_sampler(config, None, workspace.policy_cache), block, requests, progress)
        keys = known_draws(facts, plan, block, DRAW_COLUMNS, facts.heads()[COMPLETIONS.name])
    drawn = keys.filter(pl.col("outcome") == SAMPLED)["completion_id"]
    if drawn.is_empty():
        failures = ", ".join(f"{count} {kind}" for kind, count in keys["outcome"].value_counts().iter_rows())
        raise SourceError(
            f"the reference drew none of {keys.height} samples of its own ({failures}), expected some as a yardstick: "
            f"max_new_tokens is {options.max_new_tokens}, lower it where prompts and samples do not fit its context"
        )
    columns = ["id", "batch_id", "transient", "attempt", "prompt_id", "completion", "token_ids"]
    found = settled(facts.gather(COMPLETIONS, columns, drawn, facts.heads()[COMPLETIONS.name]))
    by_prompt = prompts.select("prompt_id", prompt="messages")
    return found.rename({"id": "completion_id"}).join(by_prompt, on="prompt_id", how="left").sort("completion_id")


def _data(rows: pl.DataFrame, samples: pl.DataFrame) -> ShiftData:
    numbers = rows.select("prompt_id").unique().sort("prompt_id").with_row_index("number")
    rows = rows.drop("prompt").join(numbers, on="prompt_id", how="left").rename({"number": "prompt"})
    samples = samples.drop("prompt").join(numbers, on="prompt_id", how="left").rename({"number": "prompt"})
    rows = rows.with_columns(
        # The policy's sum is over the whole completion: no counterpart of what is left of one that was cut.
        behavior_logps=pl.when(~pl.col("cut")).then("behavior_logps"),
        staleness=pl.lit(None, pl.Int64),
    ).sort("row", "side")
    return shift_data(rows, samples.sort("completion_id"))
