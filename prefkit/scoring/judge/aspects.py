"""A judge that rates completions aspect by aspect, over any transport.

Aspects are asked about in groups, one call for each group; a group of one is the ordinary case. A call always asks
about its whole group, so a score means the same whether or not its siblings were known already.
"""

from collections.abc import Iterator, Sequence

from prefkit.scoring.judge.asking import Material, rating_messages, rating_schema
from prefkit.scoring.judge.bookkeeping import Account, account, call_id, call_seed, storable
from prefkit.scoring.judge.calls import Call, CallFailure, Reply, Transport
from prefkit.scoring.judge.replies import Rating, Unread, ratings
from prefkit.scoring.judge.rubric import Aspect
from prefkit.scoring.protocol import Score, ScoreFailure, ScoreRequest


class AspectJudge:
    """Rates each completion on the aspects of `groups`. `scorer_id` names the calls, `seed` seeds the replies.

    What a call cost stands on the first of its rows and the others cost nothing, so sums over rows are exact.
    """

    def __init__(
        self, groups: Sequence[Sequence[Aspect]], transport: Transport, *, scorer_id: int, seed: int, max_tokens: int
    ) -> None:
        self._group_of = {aspect.name: tuple(group) for group in groups for aspect in group}
        self._transport = transport
        self._scorer_id = scorer_id
        self._seed = seed
        self._max_tokens = max_tokens

    @property
    def deterministic(self) -> bool:
        return False

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[Sequence[Score | ScoreFailure]]:
        calls: dict[str, Call] = {}
        asked: dict[str, list[ScoreRequest]] = {}
        for request in requests:
            call = self._call(request)
            calls[call.id] = call
            asked.setdefault(call.id, []).append(request)
        for batch in self._transport.send(list(calls.values())):
            yield [row for call, answer in batch for row in self._rows(asked.pop(call.id), answer)]

    def _call(self, request: ScoreRequest) -> Call:
        group = self._group_of[request.aspect]
        messages = rating_messages(group, Material(request.prompt, [request.completion], request.inputs.get("answer")))
        name = call_id(self._scorer_id, [request.completion_id], group[0].name, request.repeat, messages)
        return Call(name, messages, self._max_tokens, rating_schema(group), call_seed(name, self._seed))

    def _rows(self, asked: Sequence[ScoreRequest], answer: Reply | CallFailure) -> Iterator[Score | ScoreFailure]:
        group = self._group_of[asked[0].aspect]
        read = ratings(answer, group) if isinstance(answer, Reply) else [answer] * len(group)
        found = {aspect.name: (aspect, verdict) for aspect, verdict in zip(group, read, strict=True)}
        kept = account(answer)
        for request in asked:
            yield _row(request, *found[request.aspect], kept)
            kept = kept.free()


def _row(
    request: ScoreRequest, aspect: Aspect, verdict: Rating | Unread | CallFailure, kept: Account
) -> Score | ScoreFailure:
    key = (request.completion_id, request.aspect, request.repeat)
    if isinstance(verdict, Rating):
        return Score(*key, aspect.score(verdict.level), storable(verdict.rationale), *kept)
    return ScoreFailure(*key, verdict.kind, storable(verdict.detail), *kept)
