"""What the judges of a build will read, write and cost, and whether the budget covers it.

Where every completion is there, that is the dry run's forecast. Where some are still to be drawn, calls about them are
made up: they are taken to be as long as the completions there are or, without any, as long as they can get.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from prefkit.pipeline.comparing import Judge
from prefkit.pipeline.doctor.examined import Examined
from prefkit.pipeline.doctor.findings import Finding, Severity
from prefkit.pipeline.dry_run import DryRun
from prefkit.pipeline.forecast import BYTES_PER_TOKEN, Forecast, aspects_forecast, pairwise_forecast
from prefkit.pipeline.labels import Labeller
from prefkit.scoring.config import AspectJudgeScorer, JudgeScorer, PairwiseJudgeScorer
from prefkit.scoring.judge.budget import TRILLION, money

USUAL_REPLY = 150
"""Tokens of a rationale of a few sentences with its verdict."""
FEW = 50
"""So many prompts are asked about to find how long a call is."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one judge: tokens and US dollars as expected, and at most."""

    judge: JudgeScorer
    calls: int
    input_tokens: int

    @property
    def most_output(self) -> int:
        """Tokens, when every reply is as long as it may get."""
        return self.calls * self.judge.max_tokens

    @property
    def output(self) -> int:
        """Tokens, when replies are as long as they usually are."""
        return self.calls * min(self.judge.max_tokens, USUAL_REPLY)

    @property
    def usd(self) -> tuple[float, float] | None:
        """As expected and at most; None without a price."""
        price = self.judge.price
        if price is None:
            return None
        expected, most = (money(self.input_tokens, out, price) / TRILLION for out in (self.output, self.most_output))
        return expected, most


def spending(seen: Examined) -> Iterator[Finding]:
    """What each judge will cost, and what of that the budget does not cover."""
    costs = costs_of(seen)
    for cost in costs:
        usd = "" if cost.usd is None else f", about {cost.usd[0]:,.2f} USD and at most {cost.usd[1]:,.2f} USD"
        yield Finding(
            "spending", Severity.NOTE,
            f"judge {cost.judge.model}: {', '.join(cost.judge.aspects)}: {cost.calls:,} call"
            f"{'' if cost.calls == 1 else 's'}, about {cost.input_tokens:,} tokens in and {cost.output:,} out, at most "
            f"{cost.most_output:,} out{usd}",
            "", cost.calls,
        )  # fmt: skip
    yield from over_budget(seen, costs)


def over_budget(seen: Examined, costs: list[Cost]) -> Iterator[Finding]:
    """Limits below what the judges are expected to cost are errors, those below the most they can cost warnings."""
    budget = seen.recipe.budget
    if budget is None:
        return
    if budget.usd is not None:
        for cost in costs:
            if cost.usd is None:
                message = f"budget.usd is {budget.usd:g} and judge {cost.judge.model} has no price, expected one"
                yield Finding("budget", Severity.ERROR, message, "add `price: {input: ..., output: ...}`, per million")
        sums = [sum(c.usd[k] for c in costs if c.usd) for k in (0, 1)]
        yield from _compared("usd", budget.usd, *sums, unit="USD", digits=2)
    if budget.tokens is not None:
        expected, most = (sum(c.input_tokens + out(c) for c in costs) for out in (_usual, _most))
        yield from _compared("tokens", budget.tokens, expected, most, unit="tokens", digits=0)


def _usual(cost: Cost) -> int:
    return cost.output


def _most(cost: Cost) -> int:
    return cost.most_output


def _compared(name: str, limit: float, expected: float, most: float, *, unit: str, digits: int) -> Iterator[Finding]:
    if most <= limit:
        return
    severity = Severity.ERROR if expected > limit else Severity.WARNING
    figures = [f"{value:,.{digits}f}" for value in (limit, expected, most)]
    yield Finding(
        "budget", severity,
        f"budget.{name} is {figures[0]}, and the judges need about {figures[1]} {unit}, at most {figures[2]}; calls "
        "beyond the budget are not made and their labels are missing",
        f"raise budget.{name}, or ask for fewer labels",
    )  # fmt: skip


def costs_of(seen: Examined) -> list[Cost]:
    """The cost of every judge with something to do. Without a plan nothing is known."""
    plan = seen.plan
    if plan is None:
        return []
    forecasts = {forecast.what: forecast for forecast in plan.forecasts}
    costs: list[Cost] = []
    for config in seen.recipe.score:
        if isinstance(config, AspectJudgeScorer | PairwiseJudgeScorer):
            known = forecasts.get(f"{config.model}: {', '.join(config.aspects)}")
            if plan.labels_are_upper_bound:
                costs.append(_before_drawing(config, seen, plan))
            elif known is not None:
                costs.append(Cost(config, known.calls, known.input_tokens))
    return costs


def _before_drawing(config: AspectJudgeScorer | PairwiseJudgeScorer, seen: Examined, plan: DryRun) -> Cost:
    text = "x" * _usual_bytes(seen)
    asked = seen.prompts.head(FEW).select("messages", *sorted(config.reads), text=pl.lit(text))
    if isinstance(config, AspectJudgeScorer):
        one, calls = _rating_call(config, seen.folder, asked), _ratings(config, plan)
    else:
        one, calls = _comparison_call(config, seen.folder, asked), _comparisons(config, seen, plan)
    each = one.input_tokens / one.calls if one.calls else 0.0
    return Cost(config, calls, round(each * calls))


def _usual_bytes(seen: Examined) -> int:
    if seen.completions.height:
        return round(seen.completions["text"].str.len_bytes().mean())  # type: ignore[arg-type]
    return BYTES_PER_TOKEN * max((block.max_new_tokens for block in seen.recipe.sample), default=0)


def _rating_call(config: AspectJudgeScorer, folder: Path, asked: pl.DataFrame) -> Forecast:
    keys = asked.join(pl.DataFrame({"aspect": config.aspects}), how="cross")
    keys = keys.with_row_index("n").with_columns(completion_id=pl.col("n").cast(pl.Binary), repeat=pl.lit(0))
    labeller = Labeller(0, config.aspects, 1, tuple(sorted(config.reads)))
    return aspects_forecast(config, folder, labeller, keys, 0)


def _comparison_call(config: PairwiseJudgeScorer, folder: Path, asked: pl.DataFrame) -> Forecast:
    keys = asked.join(pl.DataFrame({"aspect": config.aspects}), how="cross").with_columns(
        completion_a=pl.lit(b"a"), completion_b=pl.lit(b"b"), order=pl.lit("ab"), repeat=pl.lit(0),
        text_a=pl.col("text"), text_b=pl.col("text"),
    )  # fmt: skip
    return pairwise_forecast(Judge(config, 0), folder, keys)


def _ratings(config: AspectJudgeScorer, plan: DryRun) -> int:
    to_do = sum(work.to_do for work in plan.labels if work.what == ", ".join(config.aspects))
    return to_do // (len(config.aspects) if config.calls == "together" else 1)


def _comparisons(config: PairwiseJudgeScorer, seen: Examined, plan: DryRun) -> int:
    """Pairs of the completions there are and of those to come, evenly spread, less what was compared before."""
    come = sum(draw.to_do for draw in plan.draws) / max(1, seen.prompts.height)
    there = seen.completions.group_by("prompt").len()["len"].to_list()
    there += [0] * (seen.prompts.height - len(there))
    pairs = round(sum((k + come) * (k + come - 1) / 2 for k in there))
    have = sum(work.have for work in plan.comparisons if work.what == ", ".join(config.aspects))
    return max(0, pairs * config.calls_per_pair - have)
