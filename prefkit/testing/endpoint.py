"""An OpenAI-compatible chat endpoint on this machine whose replies, faults and bill are known.

    with FakeEndpoint(Script(latency_s=0.05, faults={Fault.HANG: 0.01}, judge=SimulatedJudge(bias=0.3))) as endpoint:
        ...                                     # a recipe with `endpoint: <endpoint.url>`
        assert endpoint.billed.usd <= 5.00      # also what the client never saw
        assert endpoint.most_in_flight <= 64

It serves `/v1/chat/completions`, `/v1/models`, and the Batch API: `/v1/files` and `/v1/batches`.
"""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass
from hashlib import blake2b
from types import TracebackType

from prefkit.testing.batches import Batches
from prefkit.testing.chat import answered, refused, unanswered
from prefkit.testing.faults import Fault, struck
from prefkit.testing.loopback import Answer, LoopbackServer, Request
from prefkit.testing.script import Bill, Script


@dataclass(frozen=True, slots=True)
class Logged:
    """One request as it arrived, and what struck it."""

    request: Request
    fault: Fault | None


class FakeEndpoint:
    """A context manager: the server runs inside it. `script` may be replaced while it runs.

    `requests` is every request in order of arrival, `billed` what the replies cost, whether or not they reached the
    client, `most_in_flight` how many chat requests were open at once, `batches` the batches that were submitted.
    """

    def __init__(self, script: Script | None = None, port: int = 0) -> None:
        self.script = script or Script()
        self.requests: list[Logged] = []
        self.billed = Bill()
        self.most_in_flight = 0
        self.batches = Batches(self._attempt)
        self._in_flight = 0
        self._sent: Counter[bytes] = Counter()
        self._server = LoopbackServer(self._answer, port)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.port

    @property
    def url(self) -> str:
        """The base URL, ending in `/v1`."""
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> "FakeEndpoint":
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop()

    async def _answer(self, request: Request) -> Answer:
        path = request.path.partition("?")[0].removeprefix("/v1")
        if self.script.key is not None and request.headers.get("authorization") != f"Bearer {self.script.key}":
            self.requests.append(Logged(request, Fault.UNAUTHORIZED))
            return unanswered(self.script, Fault.UNAUTHORIZED)
        if path == "/chat/completions" and request.method == "POST":
            return await self._chat(request)
        self.requests.append(Logged(request, None))
        if path == "/models":
            listed = {"object": "list", "data": [{"id": self.script.model, "object": "model"}]}
            return Answer(200, json.dumps(listed).encode())
        if path.startswith(("/files", "/batches")):
            return self.batches.answer(self.script, request, path)
        return refused(404, f"Not found: {request.path}", "not_found")

    async def _chat(self, request: Request) -> Answer:
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            answer, fault = self._attempt(request.body)
            self.requests.append(Logged(request, fault))
            if fault is Fault.HANG:
                await asyncio.Event().wait()
            await asyncio.sleep(self.script.slow_s if fault is Fault.SLOW else self.script.latency_s)
            return answer
        finally:
            self._in_flight -= 1

    def _attempt(self, body: bytes) -> tuple[Answer, Fault | None]:
        content = blake2b(body, digest_size=16).digest()
        fault = struck(self.script.faults, content, self._sent[content], self.script.seed)
        self._sent[content] += 1
        answer, read, written = answered(self.script, body, fault)
        self.billed.add(read, written, self.script.price)
        return answer, fault
