"""Aspects, replies and a transport that needs no network, short enough to read in a test."""

from collections.abc import Callable, Iterator, Sequence

from prefkit.scoring.judge.calls import Call, CallFailure, Reply, Spent
from prefkit.scoring.judge.rubric import Aspect
from prefkit.scoring.protocol import ComparisonRequest, ScoreRequest

SPENT = Spent(100, 20, 0.1)


def aspect(name: str = "quality", highest: int = 5, best: int | None = None) -> Aspect:
    levels = {str(level): f"Level {level}." for level in range(1, highest + 1)}
    return Aspect(name=name, question=f"How is its {name}?", levels=levels, best=best)


def reply(text: str, finish_reason: str = "stop", refusal: str | None = None) -> Reply:
    return Reply(text, finish_reason, refusal, SPENT)


def request(completion: str = "Four.", aspect: str = "quality", repeat: int = 0, number: int = 0) -> ScoreRequest:
    prompt = [{"role": "user", "content": "What is 2 + 2?"}]
    return ScoreRequest(number.to_bytes(16, "big"), aspect, repeat, prompt, completion, {})  # type: ignore[arg-type]


def pair(a: str, b: str, order: str = "ab", repeat: int = 0) -> ComparisonRequest:
    prompt = [{"role": "user", "content": "What is 2 + 2?"}]
    return ComparisonRequest(b"a" * 16, b"b" * 16, "quality", order, repeat, prompt, a, b, {})  # type: ignore[arg-type]


class ScriptedTransport:
    """Answers every call with what `script` makes of it, the last call first, two in a batch."""

    def __init__(self, script: Callable[[Call], Reply | CallFailure]) -> None:
        self.sent: list[Call] = []
        self._script = script

    def send(self, calls: Sequence[Call]) -> Iterator[Sequence[tuple[Call, Reply | CallFailure]]]:
        self.sent.extend(calls)
        turned = list(reversed(calls))
        for start in range(0, len(turned), 2):
            yield [(call, self._script(call)) for call in turned[start : start + 2]]
