"""What the judges and endpoints of a build will read, write and cost, and whether the budget covers it.

The figures are the dry run's forecasts.
"""

from collections.abc import Iterator, Sequence

from prefkit.pipeline.doctor.examined import Examined
from prefkit.pipeline.doctor.findings import Finding, Severity
from prefkit.pipeline.forecast import Forecast
from prefkit.pipeline.recipe import Recipe
from prefkit.sampling.config import EndpointSampler
from prefkit.scoring.config import JudgeScorer


def spending(seen: Examined) -> Iterator[Finding]:
    """What each judge and endpoint will cost, and what of that the budget does not cover."""
    if seen.plan is None:
        return
    forecasts = seen.plan.forecasts
    yield from map(_cost, forecasts)
    budget = seen.recipe.budget
    if budget and budget.usd is not None:
        yield from map(_unpriced, without_price(seen.recipe))
        usual, most = (sum(f.usual_usd or 0.0 for f in forecasts), sum(f.usd or 0.0 for f in forecasts))
        yield from _compared("usd", budget.usd, usual, most, unit="USD", digits=2)
    if budget and budget.tokens is not None:
        yield from _compared("tokens", budget.tokens, *_tokens(forecasts), unit="tokens", digits=0)


def without_price(recipe: Recipe) -> list[str]:
    """The judges and the policies behind endpoints whose tokens have no price."""
    judges = [c for c in recipe.score if isinstance(c, JudgeScorer) and c.price is None]
    blocks = [b for b in recipe.sample if isinstance(b, EndpointSampler) and b.price is None]
    policies = [policy.model for policy in (block.policy or recipe.policy for block in blocks) if policy]
    return [f"policy {model}" for model in policies] + [f"judge {config.model}" for config in judges]


def _cost(forecast: Forecast) -> Finding:
    usd = ""
    if forecast.usd is not None:
        usd = f", about {forecast.usual_usd:,.2f} USD and at most {forecast.usd:,.2f} USD"
    return Finding(
        "spending", Severity.NOTE,
        f"{forecast.what}: {forecast.calls:,} call{'' if forecast.calls == 1 else 's'}, about "
        f"{forecast.input_tokens:,} tokens in and {forecast.usual_output_tokens:,} out, at most "
        f"{forecast.output_tokens:,} out{usd}",
        "", forecast.calls,
    )  # fmt: skip


def _unpriced(who: str) -> Finding:
    message = f"budget.usd is set and {who} has no price, expected one"
    return Finding("budget", Severity.ERROR, message, "add `price: {input: ..., output: ...}`, per million")


def _tokens(forecasts: Sequence[Forecast]) -> tuple[int, int]:
    """As expected and at most."""
    read = sum(forecast.input_tokens for forecast in forecasts)
    return read + sum(f.usual_output_tokens for f in forecasts), read + sum(f.output_tokens for f in forecasts)


def _compared(name: str, limit: float, expected: float, most: float, *, unit: str, digits: int) -> Iterator[Finding]:
    """Limits below what is expected are errors, those below the most it can come to warnings."""
    if most <= limit:
        return
    severity = Severity.ERROR if expected > limit else Severity.WARNING
    figures = [f"{value:,.{digits}f}" for value in (limit, expected, most)]
    yield Finding(
        "budget", severity,
        f"budget.{name} is {figures[0]}, and the build needs about {figures[1]} {unit}, at most {figures[2]}; calls "
        "beyond the budget are not made and what they would give is missing",
        f"raise budget.{name}, or ask for less",
    )  # fmt: skip
