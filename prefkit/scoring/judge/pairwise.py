"""A judge that compares two completions on one aspect, over any transport.

The completion shown first is called A in the question whatever its id; a `Comparison` is about completion a, the one
with the smaller id, whichever was shown first.
"""

from collections.abc import Iterator, Sequence

from prefkit.scoring.judge.asking import Material, comparison_messages, comparison_schema
from prefkit.scoring.judge.bookkeeping import account, call_id, call_seed, storable
from prefkit.scoring.judge.calls import Call, CallFailure, Reply, Transport
from prefkit.scoring.judge.replies import Preference, preference
from prefkit.scoring.judge.rubric import Aspect
from prefkit.scoring.protocol import Comparison, ComparisonFailure, ComparisonRequest


class PairwiseJudge:
    """Compares on the given aspects, one call a request. `scorer_id` names the calls, `seed` seeds the replies."""

    def __init__(
        self, aspects: Sequence[Aspect], transport: Transport, *, scorer_id: int, seed: int, max_tokens: int
    ) -> None:
        self._aspects = {aspect.name: aspect for aspect in aspects}
        self._transport = transport
        self._scorer_id = scorer_id
        self._seed = seed
        self._max_tokens = max_tokens

    @property
    def deterministic(self) -> bool:
        return False

    def compare(self, requests: Sequence[ComparisonRequest]) -> Iterator[Sequence[Comparison | ComparisonFailure]]:
        calls = [self._call(request) for request in requests]
        asked = {call.id: request for call, request in zip(calls, requests, strict=True)}
        for batch in self._transport.send(calls):
            yield [_row(asked.pop(call.id), answer) for call, answer in batch]

    def _call(self, request: ComparisonRequest) -> Call:
        shown = [(request.completion_a, request.text_a), (request.completion_b, request.text_b)]
        if request.order == "ba":
            shown.reverse()
        material = Material(request.prompt, [text for _, text in shown], request.inputs.get("answer"))
        messages = comparison_messages(self._aspects[request.aspect], material)
        name = call_id(self._scorer_id, [i for i, _ in shown], request.aspect, request.repeat, messages)
        return Call(name, messages, self._max_tokens, comparison_schema(), call_seed(name, self._seed))


def _row(request: ComparisonRequest, answer: Reply | CallFailure) -> Comparison | ComparisonFailure:
    key = (request.completion_a, request.completion_b, request.aspect, request.order, request.repeat)
    kept = account(answer)
    verdict = preference(answer) if isinstance(answer, Reply) else answer
    if isinstance(verdict, Preference):
        for_a = verdict.first if request.order == "ab" else 1 - verdict.first
        return Comparison(*key, for_a, storable(verdict.rationale), *kept)
    return ComparisonFailure(*key, verdict.kind, storable(verdict.detail), *kept)
