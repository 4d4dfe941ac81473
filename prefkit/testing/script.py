"""How a fake endpoint behaves, on one page."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from prefkit.testing.faults import Fault
from prefkit.testing.judges import Judge, SimulatedJudge


@dataclass(frozen=True, slots=True)
class Script:
    """How the endpoint behaves. Rates are shares of the attempts."""

    judge: Judge = field(default_factory=SimulatedJudge)
    model: str = "judge"
    """The one model there is; any other is a 404."""
    key: str | None = None
    """The key that every request must carry; None accepts all."""
    latency_s: float = 0.0
    slow_s: float = 1.0
    """Latency of the attempts struck by `Fault.SLOW`."""
    faults: Mapping[Fault, float] = field(default_factory=dict[Fault, float])
    retry_after: str = "0.05"
    """The `Retry-After` header of rate limits."""
    context_tokens: int = 32_768
    """Input and `max_tokens` together; more is a 400."""
    bytes_per_token: int = 4
    price: tuple[float, float] = (2.5, 10.0)
    """US dollars per million input and output tokens."""
    length_parameter: Literal["max_tokens", "max_completion_tokens"] | None = None
    """The only name under which the limit of a reply is accepted; None accepts both."""
    batch_s: float = 0.0
    """How long a batch takes."""
    batch_fate: Literal["completed", "expired", "failed"] = "completed"
    """How batches end; in an expired one every second request is unanswered."""
    seed: int = 0
    """Another seed strikes other attempts."""


@dataclass(slots=True)
class Bill:
    """Tokens an endpoint really worked for, and what they cost in US dollars."""

    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0

    def add(self, read: int, written: int, price: tuple[float, float]) -> None:
        """Adds a reply to the bill; the sum is rounded once, not once a reply."""
        self.input_tokens += read
        self.output_tokens += written
        self.usd = (self.input_tokens * price[0] + self.output_tokens * price[1]) / 1e6
