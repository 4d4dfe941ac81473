"""What the judges of a build would read and write, and what that would cost, before anything is sent.

The calls are made up as the build would make them, and counted instead of sent. Calls about completions that are still
to be drawn are taken to be as long as those about completions there are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from prefkit.identity import Json
from prefkit.pipeline.comparing import Judge, comparison_requests
from prefkit.pipeline.labels import Labeller, score_requests
from prefkit.scoring.config import AspectJudgeScorer, JudgeScorer
from prefkit.scoring.judge.aspects import AspectJudge
from prefkit.scoring.judge.budget import TRILLION, money
from prefkit.scoring.judge.calls import Call, CallFailure, Reply
from prefkit.scoring.judge.identity import call_groups, judged_aspects
from prefkit.scoring.judge.pairwise import PairwiseJudge
from prefkit.scoring.judge.wire import worst_case

BYTES_PER_TOKEN = 4
"""A usual English average; what the budget reserves is one token a byte, which no call exceeds."""
SAMPLE = 1_000
"""So many calls are made up, at most; the others are taken to be as long."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Of one judge."""

    what: str
    calls: int
    input_tokens: int
    """About."""
    output_tokens: int
    """At most."""
    usd: float | None
    """At most, for about so many input tokens; None without a price."""

    def to_json(self) -> dict[str, Json]:
        """As plain data."""
        return asdict(self)


@dataclass(slots=True)
class _Tally:
    """A transport that counts calls and sends none."""

    calls: int = 0
    bytes: int = 0

    def send(self, calls: Sequence[Call]) -> Iterator[Sequence[tuple[Call, Reply | CallFailure]]]:
        self.calls += len(calls)
        self.bytes += sum(worst_case(call).input for call in calls)
        return iter(())


def aspects_forecast(
    config: AspectJudgeScorer, folder: Path, labeller: Labeller, missing: pl.DataFrame, to_come: int
) -> Forecast:
    """Of a judge that scores; `missing` are its keys with texts, `to_come` its keys for completions not drawn yet."""
    tally = _Tally()
    groups = call_groups(config, folder)
    judge = AspectJudge(groups, tally, scorer_id=labeller.scorer_id, seed=config.seed, max_tokens=config.max_tokens)
    for _ in judge.score(score_requests(missing.head(SAMPLE), labeller)):
        pass
    return _scaled(config, tally, (missing.height + to_come) // len(groups[0]))


def pairwise_forecast(judge: Judge, folder: Path, missing: pl.DataFrame) -> Forecast:
    """Of a judge that compares; `missing` are its keys with texts."""
    config, tally = judge.config, _Tally()
    comparer = PairwiseJudge(
        judged_aspects(config, folder), tally, scorer_id=judge.scorer_id, seed=config.seed, max_tokens=config.max_tokens
    )
    for _ in comparer.compare(comparison_requests(missing.head(SAMPLE), judge)):
        pass
    return _scaled(config, tally, missing.height)


def _scaled(config: JudgeScorer, tally: _Tally, calls: int) -> Forecast:
    each = tally.bytes / tally.calls / BYTES_PER_TOKEN if tally.calls else 0.0
    read, written = round(each * calls), config.max_tokens * calls
    usd = None if config.price is None else money(read, written, config.price) / TRILLION
    return Forecast(f"{config.model}: {', '.join(config.aspects)}", calls, read, written, usd)
