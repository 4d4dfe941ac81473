"""Plain HTTP with JSON bodies: a connection for each request, so that a server which restarts is simply met again.

Proxies from the environment are not used: the server is on this machine or in this cluster.
"""

import json
import os
import socket
import threading
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from prefkit.errors import RecipeError
from prefkit.identity import Json


class UnreachableError(Exception):
    """No answer: the connection could not be made, or ended."""


class Http:
    """A server, its key, and the requests under way. Safe to use from many threads.

    `endpoint` is the base URL of its OpenAI-compatible interface, ending in `/v1`; routes count from above that. After
    `hang_up` no request is answered any more: go on with a new one.
    """

    def __init__(self, endpoint: str, key_env: str | None, timeout_s: float) -> None:
        self._arguments = (endpoint, key_env, timeout_s)
        parts = urlsplit(endpoint)
        path = parts.path.rstrip("/")
        if parts.scheme not in ("http", "https") or not parts.hostname or not path.endswith("/v1"):
            raise RecipeError(
                f"sample.endpoint is {_shown(endpoint)!r}, expected a base URL such as http://127.0.0.1:8000/v1"
            )
        self.shown = _shown(endpoint)
        self.timeout_s = timeout_s
        self.key_name = f"the key in {key_env}" if key_env else "calls without a key"
        self._connection = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._host, self._port = parts.hostname, parts.port
        self._prefix = path.removesuffix("/v1")
        self._headers = {"Content-Type": "application/json"} | _authorization(key_env)
        self._open: set[HTTPConnection] = set()
        self._hung_up = False
        self._lock = threading.Lock()

    def get(self, route: str, timeout_s: float | None = None) -> tuple[int, bytes]:
        """Status and body. Raises TimeoutError or UnreachableError."""
        return self._request("GET", route, None, timeout_s)

    def post(self, route: str, body: Json = None, timeout_s: float | None = None) -> tuple[int, bytes]:
        """Status and body. Raises TimeoutError or UnreachableError."""
        return self._request("POST", route, json.dumps(body).encode() if body is not None else None, timeout_s)

    def hang_up(self) -> None:
        """Ends all connections. The server gives up what it was doing for them; their callers meet UnreachableError."""
        with self._lock:
            self._hung_up = True
            for connection in self._open:
                with suppress(OSError, AttributeError):
                    connection.sock.shutdown(socket.SHUT_RDWR)

    def anew(self) -> "Http":
        """The same server, with no request under way."""
        return Http(*self._arguments)

    def _request(self, method: str, route: str, body: bytes | None, timeout_s: float | None) -> tuple[int, bytes]:
        connection = self._connection(self._host, self._port, timeout=timeout_s or self.timeout_s)
        try:
            connection.connect()
            self._require_open(connection)
            connection.request(method, self._prefix + route, body, self._headers)
            response = connection.getresponse()
            return response.status, response.read()
        except TimeoutError:
            raise
        except (OSError, HTTPException) as error:
            raise UnreachableError(str(error).strip() or type(error).__name__) from None
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _require_open(self, connection: HTTPConnection) -> None:
        with self._lock:
            if self._hung_up:
                raise UnreachableError("given up")
            self._open.add(connection)


def _authorization(key_env: str | None) -> dict[str, str]:
    if key_env is None:
        return {}
    key = os.environ.get(key_env, "").strip()
    if not key:
        raise RecipeError(
            f"sample.api_key_env names the environment variable {key_env}, which is not set: export {key_env}=..."
        )
    return {"Authorization": f"Bearer {key}"}


def _shown(url: str) -> str:
    """The URL without what may be secret: user, password, query."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
