"""An HTTP/1.1 server on 127.0.0.1 in a thread of its own: as much of HTTP as clients of a JSON API use.

A handler is a coroutine from a request to an answer. Connections are kept alive, and an answer may be cut off in the
middle of its body, which a well-meaning framework would not do. Bodies come with a `Content-Length`.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import cast


@dataclass(frozen=True, slots=True)
class Request:
    """What a client sent; names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back. With `cut`, half of the body is, and then the connection ends."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    cut: bool = False


Handler = Callable[[Request], Awaitable[Answer]]


class LoopbackServer:
    """Serves `handler` from `start` to `stop` on a free port, or on the one given."""

    def __init__(self, handler: Handler, port: int = 0) -> None:
        self.port = port
        self._handler = handler
        self._loop = asyncio.new_event_loop()
        self._connections: set[_Connection] = set()
        self._stop = asyncio.Event()
        self._started = threading.Event()
        self._trouble: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="loopback-server", daemon=True)

    def start(self) -> None:
        """Returns when connections are accepted. Raises OSError when the port is taken."""
        self._thread.start()
        self._started.wait()
        if self._trouble is not None:
            self._thread.join()
            raise self._trouble

    def stop(self) -> None:
        """Ends every connection, answered or not, and the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except OSError as error:
            self._trouble = error
        finally:
            self._loop.close()
            self._started.set()

    async def _serve(self) -> None:
        create = partial(_Connection, self._handler, self._connections)
        server = await self._loop.create_server(create, "127.0.0.1", self.port, backlog=512)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()
        ending = [task for task in (connection.end() for connection in self._connections) if task is not None]
        await asyncio.gather(*ending, return_exceptions=True)
        while self._connections:  # each leaves when its socket is closed, in the next turn of the loop
            await asyncio.sleep(0)


class _Connection(asyncio.Protocol):
    """One client's connection: requests are answered one after the other; when it leaves, its request is dropped."""

    def __init__(self, handler: Handler, connections: "set[_Connection]") -> None:
        self._handler = handler
        self._connections = connections
        self._received = bytearray()
        self._answering: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self.end()

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._next()

    def end(self) -> asyncio.Task[None] | None:
        """Hangs up; what remains to be waited for is returned."""
        if self._transport is not None:
            self._transport.abort()
        if self._answering is not None:
            self._answering.cancel()
        return self._answering

    def _next(self) -> None:
        if self._answering is None and (request := _taken(self._received)) is not None:
            self._answering = asyncio.ensure_future(self._answer(request))

    async def _answer(self, request: Request) -> None:
        assert self._transport is not None
        answer = await self._handler(request)
        self._transport.write(_head(answer) + (answer.body[: len(answer.body) // 2] if answer.cut else answer.body))
        self._answering = None
        if answer.cut:
            self._transport.close()
        else:
            self._next()


def _taken(received: bytearray) -> Request | None:
    """The first whole request, taken out of what was received."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *lines = received[:end].decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    start, length = end + 4, int(headers.get("content-length", 0))
    if len(received) < start + length:
        return None
    body = bytes(received[start : start + length])
    del received[: start + length]
    method, path, _ = first.split(" ", 2)
    return Request(method, path, headers, body)


def _head(answer: Answer) -> bytes:
    lines = [
        f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
        *(f"{name}: {value}" for name, value in answer.headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
