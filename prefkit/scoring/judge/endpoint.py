"""Where a judge is and how it is talked to: what both transports share.

The key is read from the environment when a transport is opened, travels in the header alone, and is taken out of
whatever the endpoint sends back.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from prefkit.errors import EndpointError, MissingExtraError, RecipeError
from prefkit.identity import Json
from prefkit.scoring.judge.answers import Answered, Blame, Trouble, outcome
from prefkit.scoring.judge.backoff import Backoff
from prefkit.scoring.protocol import ScoreFailureKind
from prefkit.spending import Price

if TYPE_CHECKING:
    import openai

NO_KEY = "none"
REDACTED = b"[api key]"
SHORTEST_SECRET = 6
"""Shorter keys are placeholders of local servers; taking them out of a reply would spoil it."""
CONNECT_S = 20.0
"""A connection may take this long, or half of the time there is: one that was never made is known not to be billed."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An OpenAI-compatible endpoint and a model behind it."""

    url: str
    """Base URL, ending in `/v1`."""
    model: str
    temperature: float = 0.0
    api_key_env: str | None = None
    price: Price | None = None
    timeout_s: float = 300.0
    """Wall time of one attempt."""
    backoff: Backoff = field(default_factory=Backoff)
    role: str = "judge"
    """What messages call the model."""
    settings: Mapping[str, Json] = field(default_factory=dict[str, Json])
    """Further settings of every request."""

    @property
    def who(self) -> str:
        """What messages call it."""
        return f"{self.role} {self.model!r}"

    def key(self) -> str:
        """The API key. Raises RecipeError when its variable is not set."""
        if self.api_key_env is None:
            return NO_KEY
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise RecipeError(
                f"{self.who} reads its key from the environment variable {self.api_key_env}, which is not set: "
                f"export {self.api_key_env}=..."
            )
        return key

    def mistake(self, trouble: Trouble) -> EndpointError:
        """The one line for a trouble that is the endpoint's. It never holds what a wrong key was answered with."""
        where = f"{self.who} at {shown_url(self.url)}"
        key = f"the key in {self.api_key_env}" if self.api_key_env else "calls without a key"
        match trouble.status:
            case 401 | 403:
                fix = "check the variable" if self.api_key_env else "name the variable that holds one in `api_key_env`"
                return EndpointError(f"{where} refuses {key} ({trouble.status}), expected one it accepts: {fix}")
            case 404 | 405:
                return EndpointError(
                    f"{where} is not there ({trouble.detail}), expected a model that is served and a base URL that "
                    f"ends in /v1: check `model` and `endpoint`"
                )
            case 402 | 429:
                return EndpointError(f"{where} has no credit left ({trouble.detail}): top it up and build again")
            case _ if trouble.kind is ScoreFailureKind.UNPARSABLE:
                return EndpointError(
                    f"{where}: {trouble.detail}, expected an OpenAI-compatible API: check that `endpoint` is its base "
                    f"URL, ending in /v1"
                )
            case _ if trouble.kind is ScoreFailureKind.CONNECTION:
                return EndpointError(f"{where} cannot be reached ({trouble.detail}): start it and build again")
            case _:
                return EndpointError(f"{where} accepts no request ({trouble.detail}): check `model` and its settings")


def require_client() -> None:
    """Raises MissingExtraError without the openai package."""
    try:
        import openai  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        raise MissingExtraError(
            "a judge behind an endpoint needs openai, which is not installed: pip install 'prefkit[judge]'"
        ) from error


def require_url(url: str) -> None:
    """Raises RecipeError for what is no http or https URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RecipeError(f"endpoint is {shown_url(url)!r}, expected a URL such as http://127.0.0.1:8000/v1")


def shown_url(url: str) -> str:
    """The URL without what may be secret: user, password, query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query="", fragment="").geturl()


def read(status: int, headers: Mapping[str, str], content: bytes, key: str) -> Answered | Trouble:
    """What an answer means, the key taken out of it should the endpoint have echoed it."""
    if len(key) >= SHORTEST_SECRET:
        content = content.replace(key.encode(), REDACTED)
    return outcome(status, headers, content)


def unanswered(error: "openai.APIConnectionError") -> Trouble:
    """What it means that no answer came. Only a connection that was never made is certain not to be billed."""
    import httpx2

    cause = error.__cause__
    what = type(cause).__name__ if cause is not None else "no connection"
    kinds = ScoreFailureKind
    if isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout):
        says = str(cause) or what
        return Trouble(kinds.CONNECTION, says, again=True, blame=Blame.ENDPOINT)
    if isinstance(cause, httpx2.UnsupportedProtocol | httpx2.InvalidURL):
        return Trouble(kinds.CONNECTION, what, blame=Blame.ENDPOINT)
    if isinstance(cause, httpx2.PoolTimeout):
        return Trouble(kinds.TIMEOUT, what, again=True)
    kind = kinds.TIMEOUT if isinstance(cause, httpx2.TimeoutException) else kinds.CONNECTION
    return Trouble(kind, f"the connection ended: {what}", billable=True, again=True)
