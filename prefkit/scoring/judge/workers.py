"""What happens to a call between being taken and being finished: reserve, ask, settle, wait and ask again.

Every attempt is reserved and settled for itself. A call ends in a reply, in a failure of its own, or in a trouble of
the endpoint, which ends the whole run: no new attempt starts, those under way are waited for, since they may be paid.
"""

import asyncio
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, TypeAlias

from prefkit.scoring.judge.answers import Answered, Blame, Trouble
from prefkit.scoring.judge.calls import Call, CallFailure, Reply
from prefkit.scoring.judge.endpoint import CONNECT_S, Endpoint, read, unanswered
from prefkit.scoring.judge.wire import NO_TOKENS, Tokens, request_body, worst_case
from prefkit.scoring.protocol import ScoreFailureKind
from prefkit.spending import Amount, Budget

if TYPE_CHECKING:
    import openai

Finished: TypeAlias = tuple[Call, Reply | CallFailure]

FEWEST_DOUBTS = 3
WORKERS_PER_CLIENT = 8
"""A client looks through all its connections at every request and every reply: with 64 that is a tenth of a call's
processor time."""


@dataclass(slots=True)
class Acquaintance:
    """What is known of an endpoint so far, by all runs of a transport."""

    proved: bool = False
    """It has answered properly at least once."""
    doubts: int = 0
    """Doubtful answers while it had not."""
    length_parameter: str = "max_tokens"
    """The name under which it knows the limit of a reply."""


class Workers:
    """One run over some calls, inside one event loop.

    `finish` is given every call that ends. `room` is acquired for every call that starts; whoever takes the finished
    ones releases it. After the run, `mistake` is the trouble of the endpoint that ended it, if one did.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        key: str,
        budget: Budget,
        known: Acquaintance,
        finish: Callable[[Finished], None],
        room: asyncio.Semaphore,
        concurrency: int,
    ) -> None:
        self.mistake: Trouble | None = None
        self._endpoint = endpoint
        self._key = key
        self._budget = budget
        self._known = known
        self._finish = finish
        self._room = room
        self._concurrency = concurrency
        self._stopping = asyncio.Event()
        self._asking: set[asyncio.Task[None] | None] = set()
        self._doubtful: list[tuple[Call, CallFailure, Trouble]] = []

    async def run(self, calls: Sequence[Call]) -> None:
        """Returns when every call is finished or, with `mistake` set, when none is under way any more."""
        queue, most = iter(calls), min(self._concurrency, len(calls))
        async with AsyncExitStack() as open_clients:
            clients = [
                await open_clients.enter_async_context(_client(self._endpoint, self._key))
                for _ in range(0, most, WORKERS_PER_CLIENT)
            ]
            tasks = [
                asyncio.create_task(self._work(clients[number // WORKERS_PER_CLIENT], queue)) for number in range(most)
            ]
            stopping = asyncio.create_task(self._stopping.wait())
            try:
                await _first_trouble_or_all(tasks, stopping)
                if self._stopping.is_set():
                    await self._wind_down(tasks)
            finally:
                stopping.cancel()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        if self._doubtful and not self._known.proved and self.mistake is None:
            self.mistake = self._doubtful[0][2]

    async def _wind_down(self, tasks: Sequence["asyncio.Task[None]"]) -> None:
        for task in tasks:
            if task not in self._asking:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, client: "openai.AsyncOpenAI", queue: Iterator[Call]) -> None:
        for call in queue:
            await self._room.acquire()
            await self._call(client, call)
            if self._stopping.is_set():
                return

    async def _call(self, client: "openai.AsyncOpenAI", call: Call) -> None:
        worst, price = worst_case(call), self._endpoint.price
        charged = NO_TOKENS
        for attempt in count():
            if not await self._reserved(worst.amount(price)):
                spent = charged.spent(price) if charged != NO_TOKENS else None
                detail = f"the budget does not cover {worst.input} input and {worst.output} output tokens"
                self._finish((call, CallFailure(ScoreFailureKind.OVER_BUDGET, detail, spent=spent)))
                return
            parameter = self._known.length_parameter
            answer, used = await self._settled_attempt(client, call, worst, parameter)
            charged += used
            if isinstance(answer, Answered):
                self._prove()
                reply = Reply(answer.text, answer.finish_reason, answer.refusal, charged.spent(price))
                self._finish((call, reply))
                return
            if answer.wants_completion_tokens and parameter == "max_tokens":
                self._known.length_parameter = "max_completion_tokens"
                continue
            self._doubt(answer)
            if not answer.again or attempt + 1 >= self._endpoint.backoff.attempts or self._stopping.is_set():
                self._end(call, answer, charged)
                return
            await asyncio.sleep(self._endpoint.backoff.drawn_delay_s(attempt, answer.after_s))

    async def _reserved(self, worst: Amount) -> bool:
        if self._budget.reserve_now(worst):
            return True
        granted = self._budget.reserve(worst)
        try:
            return await asyncio.wrap_future(granted)
        except asyncio.CancelledError:
            self._budget.withdraw(worst, granted)
            raise

    async def _settled_attempt(
        self, client: "openai.AsyncOpenAI", call: Call, worst: Tokens, parameter: str
    ) -> tuple[Answered | Trouble, Tokens]:
        used = worst  # an attempt that is broken off may have been billed
        task = asyncio.current_task()
        self._asking.add(task)
        try:
            body = request_body(call, self._endpoint.model, self._endpoint.temperature, parameter)
            answer = await self._attempt(client, {**body, **self._endpoint.settings})
            used = charge(answer, worst)
            return answer, used
        finally:
            self._asking.discard(task)
            self._budget.settle(worst.amount(self._endpoint.price), used.amount(self._endpoint.price))

    async def _attempt(self, client: "openai.AsyncOpenAI", body: object) -> Answered | Trouble:
        import httpx2
        import openai

        try:
            async with asyncio.timeout(self._endpoint.timeout_s):
                response = await client.post("/chat/completions", body=body, cast_to=httpx2.Response)
            return read(response.status_code, response.headers, response.content, self._key)
        except openai.APIStatusError as error:
            return read(error.status_code, error.response.headers, error.response.content, self._key)
        except openai.APIConnectionError as error:
            return unanswered(error)
        except TimeoutError:
            says = f"no answer within {self._endpoint.timeout_s:g} s"
            return Trouble(ScoreFailureKind.TIMEOUT, says, billable=True, again=True)

    def _prove(self) -> None:
        self._known.proved = True
        while self._doubtful:
            call, failure, _ = self._doubtful.pop()
            self._finish((call, failure))

    def _doubt(self, trouble: Trouble) -> None:
        if trouble.blame is Blame.DOUBTFUL and not self._known.proved:
            self._known.doubts += 1
            # With that many doubtful answers and no proper one, no worker can be the lucky one that is still waiting.
            if self._known.doubts >= max(FEWEST_DOUBTS, self._concurrency):
                self._give_up(trouble)

    def _end(self, call: Call, trouble: Trouble, charged: Tokens) -> None:
        spent = charged.spent(self._endpoint.price) if charged != NO_TOKENS else None
        failure = CallFailure(trouble.kind, trouble.detail, trouble.raw, spent)
        if trouble.blame is Blame.ENDPOINT:
            self._give_up(trouble)
        elif trouble.blame is Blame.DOUBTFUL and not self._known.proved:
            self._doubtful.append((call, failure, trouble))
        else:
            self._finish((call, failure))

    def _give_up(self, trouble: Trouble) -> None:
        self.mistake = self.mistake or trouble
        self._stopping.set()


def charge(answer: Answered | Trouble, worst: Tokens) -> Tokens:
    """What an attempt is charged: its usage, or everything that was reserved where it may have been billed unseen."""
    if isinstance(answer, Answered):
        return answer.used or worst
    return worst if answer.billable else NO_TOKENS


async def _first_trouble_or_all(tasks: Sequence["asyncio.Task[None]"], stopping: "asyncio.Task[bool]") -> None:
    """Returns when every task is done or `stopping` is; raises what a task raised."""
    everything = asyncio.create_task(asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION))
    try:
        await asyncio.wait({everything, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        everything.cancel()
    for task in tasks:
        if task.done():
            task.result()


def _client(endpoint: Endpoint, key: str) -> "openai.AsyncOpenAI":
    import httpx2
    import openai

    timeout = httpx2.Timeout(endpoint.timeout_s, connect=min(CONNECT_S, endpoint.timeout_s / 2))
    http = openai.DefaultAsyncHttpxClient(verify=_trusted())
    return openai.AsyncOpenAI(base_url=endpoint.url, api_key=key, max_retries=0, timeout=timeout, http_client=http)


@cache
def _trusted() -> ssl.SSLContext:
    """The certificates that are trusted. Reading them takes longer than a small `send`."""
    import httpx2

    return httpx2.create_ssl_context()
