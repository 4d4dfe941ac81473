"""Whether the endpoints of judges and samplers answer: one GET of `/models` each, with a short timeout.

A key travels in the header and nowhere else: redirects are not followed, and what an endpoint says is shown without it.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from typing import IO, cast
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from prefkit.errors import RecipeError
from prefkit.pipeline.doctor.examined import Examined
from prefkit.pipeline.doctor.findings import Finding, Severity
from prefkit.pipeline.recipe import Recipe
from prefkit.sampling.config import EndpointSampler, VllmServerSampler
from prefkit.scoring.config import JudgeScorer
from prefkit.scoring.judge.endpoint import require_url, shown_url

TIMEOUT_S = 5.0
MOST_BYTES = 1 << 20
FEW = 5
"""So many names of models are shown."""


@dataclass(frozen=True, slots=True)
class Place:
    """An endpoint, the model wanted there, and the variable that holds the key."""

    url: str
    model: str | None
    key_env: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: bytes


def places(recipe: Recipe) -> list[Place]:
    """The endpoints that a build of the recipe talks to, each once."""
    found = [Place(c.endpoint, c.model, c.api_key_env) for c in recipe.score if isinstance(c, JudgeScorer)]
    for block in recipe.sample:
        if isinstance(block, EndpointSampler):
            policy = block.policy or recipe.policy
            found.append(Place(block.endpoint, policy.model if policy else None, block.api_key_env))
        elif isinstance(block, VllmServerSampler):  # it may serve the policy under any name
            found.append(Place(block.endpoint, None, block.api_key_env))
    return list(dict.fromkeys(found))


def endpoints(seen: Examined) -> Iterator[Finding]:
    """Endpoints that cannot be reached, refuse the key, are no API or do not serve the model."""
    for place in places(seen.recipe):
        trouble = _before_asking(place)
        if trouble is None:
            key = os.environ[place.key_env].strip() if place.key_env else None
            trouble = verdict(place, asked(place.url, key), key)
        if trouble:
            yield trouble


def _before_asking(place: Place) -> Finding | None:
    try:
        require_url(place.url)
    except RecipeError as error:
        return Finding("endpoint", Severity.ERROR, str(error))
    key = os.environ.get(place.key_env, "").strip() if place.key_env else "none"
    if not key:
        return _error(place, f"wants a key, and {place.key_env} is not set", f"export {place.key_env}=...")
    if not (key.isascii() and key.isprintable()):
        message = f"wants a key, and {place.key_env} holds characters that no header can carry"
        return _error(place, message, "check the variable")
    return None


def asked(url: str, key: str | None) -> Answer | str:
    """What the endpoint says of its models, or why it says nothing."""
    headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    request = Request(url.rstrip("/") + "/models", headers=headers)  # noqa: S310 - `require_url` allows http(s) only
    try:
        with build_opener(_Stay).open(request, timeout=TIMEOUT_S) as reply:
            return Answer(reply.status, reply.read(MOST_BYTES))
    except HTTPError as reply:
        with reply:
            return Answer(reply.code, b"")
    except URLError as error:
        return str(error.reason) or type(error).__name__
    except (HTTPException, OSError, ValueError) as error:
        return type(error).__name__  # the text may quote the URL, which may hold a password


class _Stay(HTTPRedirectHandler):
    """Follows no redirect: the key is for this host."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


def verdict(place: Place, answer: Answer | str, key: str | None) -> Finding | None:
    """What is wrong with an endpoint that gave this answer, or None."""
    if isinstance(answer, str):
        return _error(place, f"cannot be reached ({_without(key, answer)})", "start it, or correct `endpoint`")
    match answer.status:
        case 200:
            return _listed(place, answer.body, key)
        case 401 | 403:
            which = f"the key in {place.key_env}" if place.key_env else "calls without a key"
            fix = "check the variable" if place.key_env else "name the variable that holds one in `api_key_env`"
            return _error(place, f"refuses {which} ({answer.status})", fix)
        case status if 300 <= status < 400:
            return _error(place, f"redirects ({status})", "give the URL it redirects to, ending in /v1")
        case status:
            message = f"does not list its models ({status}), so that it can judge is not certain"
            remedy = "check that `endpoint` is the base URL of an OpenAI-compatible API, ending in /v1"
            return _finding(Severity.WARNING, place, message, remedy)


def _listed(place: Place, body: bytes, key: str | None) -> Finding | None:
    try:
        models = [
            str(model["id"]) for model in cast("Mapping[str, list[Mapping[str, object]]]", json.loads(body))["data"]
        ]
    except (ValueError, KeyError, TypeError):
        what = "a web page (HTML)" if body.lstrip()[:1] == b"<" else "something else than a list of models"
        return _error(place, f"answers with {what}", "give the base URL of an OpenAI-compatible API, ending in /v1")
    if place.model is None or place.model in models:
        return None
    shown = ", ".join(models[:FEW]) + (", ..." if len(models) > FEW else "")
    return _error(place, f"serves {_without(key, shown) or 'no model'}, not {place.model!r}", "correct `model`")


def _without(key: str | None, text: str) -> str:
    return text.replace(key, "[api key]") if key else text


def _error(place: Place, message: str, remedy: str) -> Finding:
    return _finding(Severity.ERROR, place, message, remedy)


def _finding(severity: Severity, place: Place, message: str, remedy: str) -> Finding:
    return Finding("endpoint", severity, f"{shown_url(place.url)} {message}", remedy)
