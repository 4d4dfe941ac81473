"""What the trainer's `max_length` will cut, and what does not fit into the policy's context."""

from collections.abc import Iterator

import polars as pl

from prefkit.pipeline.doctor.examined import Examined
from prefkit.pipeline.doctor.findings import Finding, Severity, of, such_as
from prefkit.pipeline.recipe import Recipe

DEFAULT_MAX_LENGTH = 1024
"""Of TRL's SFT, DPO, KTO and reward trainers (1.16): prompt and completion together, the end is cut off."""
WITHOUT_MAX_LENGTH = ("grpo", "rloo", "reinforce", "ppo")
"""Methods whose trainers sample themselves and cut nothing unless told to."""


def max_length(recipe: Recipe) -> int | None:
    """Most tokens the trainer reads of prompt and completion, or None when it cuts nothing."""
    if recipe.train is None:
        return DEFAULT_MAX_LENGTH
    if "max_length" not in recipe.train.args and recipe.train.method in WITHOUT_MAX_LENGTH:
        return None
    given = recipe.train.args.get("max_length", DEFAULT_MAX_LENGTH)
    return given if isinstance(given, int) and not isinstance(given, bool) else None


def truncation(seen: Examined) -> Iterator[Finding]:
    """What `train.args.max_length` will cut. Without a `train` block all of it is a note: the trainer is not known."""
    limit = max_length(seen.recipe)
    if limit is None:
        return
    how = _how(seen, limit)
    worst = Severity.ERROR if seen.recipe.train else Severity.NOTE
    bad = Severity.WARNING if seen.recipe.train else Severity.NOTE
    whole = seen.prompts.filter(pl.col("tokens") >= limit)
    if whole.height:
        yield Finding(
            "truncation", worst,
            f"{of(whole.height, seen.prompts.height, 'prompt')} alone fill{'s' if whole.height == 1 else ''} {how}"
            f"{such_as(whole['text'])}; nothing is left of their completions",
            "leave them out, or raise train.args.max_length", whole.height,
        )  # fmt: skip
    cut = seen.completions.filter(pl.col("tokens") > limit)
    if cut.height:
        longest = cut["tokens"].max()
        yield Finding(
            "truncation", bad,
            f"{of(cut.height, seen.completions.height, 'completion')} with their prompts are longer than {how}, "
            f"the longest {longest:,} tokens; the trainer cuts their ends",
            f"set train.args.max_length to {longest} (or null, which cuts nothing), or leave them out", cut.height,
        )  # fmt: skip
    yield from _room(seen, limit, how, bad)


def _room(seen: Examined, limit: int, how: str, severity: Severity) -> Iterator[Finding]:
    """Prompts that leave too little room for completions that are still to be drawn."""
    new = max((block.max_new_tokens for block in seen.recipe.sample), default=0)
    tight = seen.prompts.filter(pl.col("tokens") < limit, pl.col("tokens") + new > limit)
    if new and tight.height and (seen.plan is None or any(draw.to_do for draw in seen.plan.draws)):
        most = limit - int(seen.prompts.filter(pl.col("tokens") < limit)["tokens"].max())  # type: ignore[arg-type]
        yield Finding(
            "truncation", severity,
            f"{of(tight.height, seen.prompts.height, 'prompt')} leave{'s' if tight.height == 1 else ''} less than "
            f"sample.max_new_tokens ({new:,}) of {how}; the ends of long completions are cut",
            f"lower sample.max_new_tokens to {most}, or raise train.args.max_length", tight.height,
        )  # fmt: skip


def context(seen: Examined) -> Iterator[Finding]:
    """Prompts that cannot be sampled: with `max_new_tokens` they do not fit into the policy's context."""
    new = max((block.max_new_tokens for block in seen.recipe.sample), default=0)
    if seen.context is None or not new:
        return
    lost = seen.prompts.filter(pl.col("sampled_tokens") + new > seen.context)
    if lost.height:
        yield Finding(
            "context", Severity.ERROR if lost.height == seen.prompts.height else Severity.WARNING,
            f"{of(lost.height, seen.prompts.height, 'prompt')} and sample.max_new_tokens ({new:,}) do not fit into the "
            f"policy's context of {seen.context:,} tokens{such_as(lost['text'])}; their draws fail as prompt_too_long",
            "lower sample.max_new_tokens, or leave the prompts out", lost.height,
        )  # fmt: skip


def _how(seen: Examined, limit: int) -> str:
    default = ", TRL's default" if seen.recipe.train is None or "max_length" not in seen.recipe.train.args else ""
    estimate = f", lengths estimated from bytes since {seen.estimated}" if seen.estimated else ""
    return f"max_length ({limit:,} tokens{default}{estimate})"
