"""Calls made through a provider's Batch API: cheaper, within a day, and all results of a batch at once.

A batch is paid when it is submitted, so it is remembered before anything else (`batch_records`): a process that was
killed, run again with the same folder and calls, polls what is there and submits only what was never submitted.
"""

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefkit.identity import Json
from prefkit.scoring.judge.answers import Answered, Blame, Trouble
from prefkit.scoring.judge.batch_client import BatchClient, Ended
from prefkit.scoring.judge.batch_records import BatchRecord, BatchRecords, request_key
from prefkit.scoring.judge.calls import Call, CallFailure, Reply
from prefkit.scoring.judge.endpoint import Endpoint, require_client, require_url
from prefkit.scoring.judge.wire import NO_TOKENS, Tokens, request_body, worst_case
from prefkit.scoring.judge.workers import Finished, charge
from prefkit.scoring.protocol import ScoreFailureKind
from prefkit.spending import Amount, Budget

MOST_CALLS = 50_000
"""What OpenAI takes in one batch."""
MOST_BYTES = 100 * 2**20


@dataclass(frozen=True, slots=True)
class _Request:
    call: Call
    body: Mapping[str, Json]
    worst: Tokens


class BatchTransport:
    """The transport of Batch APIs. `folder` is where submitted batches are remembered.

    Raises MissingExtraError without the openai package, and RecipeError for an endpoint that is no URL, a key that is
    not set, or a budget in money without a price.
    """

    def __init__(self, endpoint: Endpoint, folder: Path, budget: Budget | None = None, poll_s: float = 60.0) -> None:
        require_client()
        require_url(endpoint.url)
        self._endpoint = endpoint
        self._budget = budget or Budget()
        self._budget.require_price(endpoint.price, endpoint.who)
        self._client = BatchClient(endpoint, endpoint.key())
        self._records = BatchRecords(folder)
        self._poll_s = poll_s

    def send(self, calls: Sequence[Call]) -> Iterator[Sequence[tuple[Call, Reply | CallFailure]]]:
        """Yields the calls of a batch when it has ended. A batch is forgotten when its results were taken.

        Raises EndpointError when a batch cannot be submitted or looked at; what was submitted stays remembered.
        """
        url, requests = self._endpoint.url, [self._request(call) for call in calls]
        asked = {request_key(url, request.call.id, request.body): request for request in requests}
        pending = self._resumed(asked)
        submitted = {key for record in pending for key in record.worst}
        left = [key for key in asked if key not in submitted]
        try:
            while left or pending:
                turned_away = self._submit(asked, left, pending)
                if turned_away:
                    yield [(asked[key].call, self._over_budget(asked[key])) for key in turned_away]
                yield from self._polled(asked, pending)
        finally:
            for record in pending:  # what was submitted is paid, whoever takes the results
                for key in record.worst:
                    self._settle(record, key, record.tokens(key) if record.file_id else NO_TOKENS)

    def _request(self, call: Call) -> _Request:
        # Providers with a Batch API know the newer name of the limit, and some models no other.
        body = request_body(call, self._endpoint.model, self._endpoint.temperature, "max_completion_tokens")
        return _Request(call, body, worst_case(call))

    def _resumed(self, asked: Mapping[str, _Request]) -> list[BatchRecord]:
        pending: list[BatchRecord] = []
        for record in self._records.kept():
            if asked.keys().isdisjoint(record.worst):
                continue
            if record.file_id is None:
                self._records.drop(record)  # the upload was never acknowledged, so nothing was submitted
                continue
            if record.batch_id is None:
                record.batch_id = self._client.submitted(record.file_id, perhaps_before=True)
                self._records.keep(record)
            for key in record.worst:
                self._budget.commit(record.tokens(key).amount(self._endpoint.price))
            pending.append(record)
        return pending

    def _submit(self, asked: Mapping[str, _Request], left: list[str], pending: list[BatchRecord]) -> list[str]:
        """Submits what the budget covers now, as a new batch in `pending`; returns what it never will cover."""
        covered: list[str] = []
        turned_away: list[str] = []
        room = MOST_BYTES
        while left and len(covered) < MOST_CALLS and room > 0:
            amount = asked[left[0]].worst.amount(self._endpoint.price)
            if not self._budget.reserve_now(amount):
                # Batches that end free budget. Without one, only another thread can, and it is waited for.
                if pending or covered:
                    break
                if not self._waited_for(amount):
                    turned_away.append(left.pop(0))
                    continue
            room -= asked[left[0]].worst.input
            covered.append(left.pop(0))
        if covered:
            self._create({key: asked[key] for key in covered}, pending)
        return turned_away

    def _waited_for(self, amount: Amount) -> bool:
        granted = self._budget.reserve(amount)
        try:
            return granted.result()
        except KeyboardInterrupt:
            self._budget.withdraw(amount, granted)
            raise

    def _create(self, requests: Mapping[str, _Request], pending: list[BatchRecord]) -> None:
        record = BatchRecord({key: (r.worst.input, r.worst.output) for key, r in requests.items()})
        pending.append(record)
        self._records.keep(record)
        record.file_id = self._client.uploaded({key: r.body for key, r in requests.items()})
        self._records.keep(record)
        record.batch_id = self._client.submitted(record.file_id, perhaps_before=False)
        self._records.keep(record)

    def _polled(self, asked: Mapping[str, _Request], pending: list[BatchRecord]) -> Generator[Sequence[Finished]]:
        any_ended = False
        for record in list(pending):
            assert record.batch_id is not None
            ended = self._client.ended(record.batch_id)
            if ended is None:
                continue
            any_ended = True
            pending.remove(record)
            finished, mistake = self._finished(asked, record, ended)
            if finished:
                yield finished
            self._records.drop(record)
            if mistake is not None:
                raise self._endpoint.mistake(mistake)
        if pending and not any_ended:
            time.sleep(self._poll_s)

    def _finished(
        self, asked: Mapping[str, _Request], record: BatchRecord, ended: Ended
    ) -> tuple[list[Finished], Trouble | None]:
        finished: list[Finished] = []
        mistake = None
        for key in record.worst:
            outcome = ended.outcomes.get(key, ended.missing)
            used = charge(outcome, record.tokens(key))
            self._settle(record, key, used)
            if isinstance(outcome, Trouble) and outcome.blame is Blame.ENDPOINT:
                mistake = outcome
            elif key in asked:
                finished.append((asked[key].call, self._result(outcome, used)))
        return finished, mistake

    def _result(self, outcome: Answered | Trouble, used: Tokens) -> Reply | CallFailure:
        spent = used.spent(self._endpoint.price) if used != NO_TOKENS else None
        if isinstance(outcome, Trouble):
            return CallFailure(outcome.kind, outcome.detail, outcome.raw, spent)
        assert spent is not None
        return Reply(outcome.text, outcome.finish_reason, outcome.refusal, spent)

    def _settle(self, record: BatchRecord, key: str, used: Tokens) -> None:
        price = self._endpoint.price
        self._budget.settle(record.tokens(key).amount(price), used.amount(price))

    def _over_budget(self, request: _Request) -> CallFailure:
        worst = request.worst
        detail = f"the budget does not cover {worst.input} input and {worst.output} output tokens"
        return CallFailure(ScoreFailureKind.OVER_BUDGET, detail)
