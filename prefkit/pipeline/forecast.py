"""What the calls of a build would read and write, and what that would cost, before anything is sent.

The calls are made up as the build would make them, and counted instead of sent. Completions that are still to be drawn
have a stand-in: a text as long as the completions there are or, without any, as long as they can get.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from prefkit.identity import Json
from prefkit.pipeline.comparing import Judge, comparison_requests
from prefkit.pipeline.labels import Labeller, score_requests
from prefkit.sampling.config import EndpointSampler, SamplerConfig
from prefkit.sampling.protocol import Message
from prefkit.scoring.config import AspectJudgeScorer, JudgeScorer
from prefkit.scoring.judge.aspects import AspectJudge
from prefkit.scoring.judge.calls import Call, CallFailure, Reply
from prefkit.scoring.judge.identity import call_groups, judged_aspects
from prefkit.scoring.judge.pairwise import PairwiseJudge
from prefkit.scoring.judge.wire import worst_case
from prefkit.spending import TRILLION, Price, money

BYTES_PER_TOKEN = 4
"""A usual English average; what the budget reserves is one token a byte, which no call exceeds."""
SAMPLE = 1_000
"""So many calls are made up, at most; the others are taken to be as long."""
FEW = 50
"""So many prompts are asked about with a stand-in."""
USUAL_REPLY = 150
"""Tokens of a rationale of a few sentences with its verdict."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Of one judge, or of one `sample` block behind an endpoint."""

    what: str
    calls: int
    input_tokens: int
    """About."""
    usual_output_tokens: int
    """When replies are as long as they usually are."""
    output_tokens: int
    """At most."""
    usual_usd: float | None
    """For about so many input tokens and usual replies; None without a price."""
    usd: float | None
    """At most, for about so many input tokens; None without a price."""

    def to_json(self) -> dict[str, Json]:
        """As plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class StandIn:
    """For completions that are still to be drawn: some of the tasks, and how long the completions will be."""

    tasks: pl.DataFrame
    bytes: int

    @classmethod
    def of(cls, tasks: pl.DataFrame, texts: pl.Series, blocks: Sequence[SamplerConfig]) -> "StandIn":
        """As long as these texts or, without any, as completions of these blocks can get."""
        if len(texts):
            return cls(tasks.head(FEW), round(float(texts.str.len_bytes().mean())))  # type: ignore[arg-type]
        return cls(tasks.head(FEW), BYTES_PER_TOKEN * max((block.max_new_tokens for block in blocks), default=0))

    def keys(self, config: JudgeScorer) -> pl.DataFrame:
        """What a judge is asked of them: `messages`, `text`, what it reads, and each of its aspects."""
        text = pl.lit("x" * self.bytes).alias("text")
        asked = self.tasks.select("messages", *sorted(config.reads), text)
        keys = asked.join(pl.DataFrame({"aspect": config.aspects}), how="cross").with_row_index("n")
        return keys.with_columns(completion_id=pl.col("n").cast(pl.Binary), repeat=pl.lit(0))


@dataclass(slots=True)
class _Tally:
    """A transport that counts calls and sends none."""

    calls: int = 0
    bytes: int = 0

    def send(self, calls: Sequence[Call]) -> Iterator[Sequence[tuple[Call, Reply | CallFailure]]]:
        self.calls += len(calls)
        self.bytes += sum(worst_case(call).input for call in calls)
        return iter(())

    def tokens(self, calls: int) -> float:
        """What so many calls would read, if those counted are like all of them."""
        return self.bytes / self.calls / BYTES_PER_TOKEN * calls if self.calls else 0.0


def aspects_forecast(
    config: AspectJudgeScorer, folder: Path, labeller: Labeller, missing: pl.DataFrame, to_come: int, stand_in: StandIn
) -> Forecast:
    """Of a judge that scores; `missing` are its keys with texts, `to_come` its keys for completions not drawn yet."""
    groups = call_groups(config, folder)

    def ask(tally: _Tally, keys: pl.DataFrame) -> Iterable[object]:
        judge = AspectJudge(groups, tally, scorer_id=labeller.scorer_id, seed=config.seed, max_tokens=config.max_tokens)
        return judge.score(score_requests(keys, labeller))

    size = len(groups[0])
    return _judged(config, ask, missing, missing.height // size, to_come // size, stand_in)


def pairwise_forecast(judge: Judge, folder: Path, missing: pl.DataFrame, to_come: int, stand_in: StandIn) -> Forecast:
    """Of a judge that compares; `missing` and `to_come` as for one that scores."""
    config, aspects = judge.config, judged_aspects(judge.config, folder)

    def ask(tally: _Tally, keys: pl.DataFrame) -> Iterable[object]:
        comparer = PairwiseJudge(
            aspects, tally, scorer_id=judge.scorer_id, seed=config.seed, max_tokens=config.max_tokens
        )
        return comparer.compare(comparison_requests(keys, judge))

    return _judged(config, ask, missing, missing.height, to_come, stand_in)


def draws_forecast(config: EndpointSampler, model: str, prompts: pl.Series, stand_in: StandIn) -> Forecast:
    """Of a `sample` block behind an endpoint; `prompts` has the messages of every draw that is missing."""
    tally = _Tally()
    system: list[Message] = [{"role": "system", "content": config.system}] if config.system else []
    asked = prompts.head(SAMPLE).to_list()
    tally.send([Call("", [*system, *messages], config.max_new_tokens) for messages in asked])
    usual = min(config.max_new_tokens, round(stand_in.bytes / BYTES_PER_TOKEN))
    read = tally.tokens(len(prompts))
    return _forecast(f"policy {model}", len(prompts), read, usual, config.max_new_tokens, config.price)


def _judged(
    config: JudgeScorer,
    ask: Callable[[_Tally, pl.DataFrame], Iterable[object]],
    missing: pl.DataFrame,
    there: int,
    to_come: int,
    stand_in: StandIn,
) -> Forecast:
    """The calls `there` about missing keys, and those `to_come` about completions that are still to be drawn."""
    read = _counted(ask, missing.head(SAMPLE)).tokens(there)
    if to_come:
        keys = stand_in.keys(config).with_columns(
            completion_a="completion_id", completion_b="completion_id", text_a="text", text_b="text", order=pl.lit("ab")
        )
        read += _counted(ask, keys).tokens(to_come)
    what = f"judge {config.model}: {', '.join(config.aspects)}"
    usual = min(config.max_tokens, USUAL_REPLY)
    return _forecast(what, there + to_come, read, usual, config.max_tokens, config.price)


def _counted(ask: Callable[[_Tally, pl.DataFrame], Iterable[object]], keys: pl.DataFrame) -> _Tally:
    tally = _Tally()
    for _ in ask(tally, keys):
        pass
    return tally


def _forecast(what: str, calls: int, read: float, usual: int, most: int, price: Price | None) -> Forecast:
    """Of calls that read about `read` tokens and whose replies have usually and at most so many each."""
    written = (calls * usual, calls * most)
    usd = (None, None) if price is None else tuple(money(round(read), out, price) / TRILLION for out in written)
    return Forecast(what, calls, round(read), *written, *usd)
