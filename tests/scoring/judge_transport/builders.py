from collections.abc import Iterable, Sequence

from prefkit.scoring.judge.backoff import Backoff
from prefkit.scoring.judge.calls import Call, CallFailure, Reply, Transport
from prefkit.scoring.judge.endpoint import Endpoint
from prefkit.scoring.judge.live import LiveTransport
from prefkit.spending import Budget, Price

PRICE = Price(input=2.5, output=10.0)
QUICK = Backoff(first_s=0.01, longest_s=0.05)
SCHEMA = {"type": "object", "properties": {"why": {"type": "string"}, "score": {"type": "integer"}}}


def call(number: int, text: str = "", max_tokens: int = 100) -> Call:
    said = f"Rate answer {number}: quality=0.{number % 10} {text}"
    return Call(f"call-{number}", [{"role": "user", "content": said}], max_tokens, SCHEMA)


def calls(count: int) -> list[Call]:
    return [call(number) for number in range(count)]


def endpoint(url: str, **changes: object) -> Endpoint:
    settings = {"model": "judge", "price": PRICE, "backoff": QUICK, "timeout_s": 5.0} | changes
    return Endpoint(url, **settings)  # pyright: ignore[reportArgumentType]


def live(url: str, budget: Budget | None = None, concurrency: int = 16, **changes: object) -> LiveTransport:
    return LiveTransport(endpoint(url, **changes), budget, concurrency)


def drained(transport: Transport, asked: Sequence[Call]) -> dict[str, Reply | CallFailure]:
    """Everything a `send` yields, by the call's id; each call exactly once."""
    pairs = [pair for batch in transport.send(asked) for pair in batch]
    ids = [call.id for call, _ in pairs]
    assert len(ids) == len(set(ids))
    return {call.id: answer for call, answer in pairs}


def replies(answers: Iterable[Reply | CallFailure]) -> list[Reply]:
    return [answer for answer in answers if isinstance(answer, Reply)]


def failures(answers: Iterable[Reply | CallFailure]) -> list[CallFailure]:
    return [answer for answer in answers if isinstance(answer, CallFailure)]
