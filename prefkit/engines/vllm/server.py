"""vLLM's own server, over HTTP: token ids in, token ids out.

Start it on a loopback address, since whoever reaches the routes of development mode can replace the weights:

    VLLM_SERVER_DEV_MODE=1 python -m vllm.entrypoints.openai.api_server --model FOLDER --host 127.0.0.1 \
        --logprobs-mode processed_logprobs --worker-extension-cls prefkit.engines.vllm.worker.WeightReload

Sampling alone needs neither development mode nor the extension, and the mode of the log-probs only for a temperature or
truncation that makes a difference. Requests are made by threads, one each, as many at a time as the recipe's
`batch_size`; nothing is retried here: a draw that failed for a passing reason is drawn by the next build.
"""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from http import HTTPStatus
from pathlib import Path
from typing import TypedDict, cast

from prefkit.engines.vllm.asks import Answer, Ask, AskFailure, Outcome, answered, parameters, read_logprobs, reading
from prefkit.engines.vllm.http import Http, UnreachableError
from prefkit.errors import EndpointError, RecipeError, SyncError
from prefkit.identity import Json
from prefkit.sampling.config import VllmServerSampler as Settings
from prefkit.sampling.protocol import SampleFailureKind

HEALTH_S = 10.0
RELOAD_S = 1800.0
HOTTEST = 2.0
"""The highest temperature a server takes: there, the log-probs of what it babbles are far from those at 1."""
BABBLE = 64
SAME_MODE = 0.05
"""Log-probs of one distribution differ by less, in any number format."""


LONGEST_MESSAGE = 300


class _Logprobs(TypedDict):
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None


class _Choice(TypedDict, total=False):
    finish_reason: str | None
    token_ids: list[int] | None
    logprobs: _Logprobs | None
    prompt_logprobs: list[dict[str, dict[str, float]] | None] | None


class ServerGoneError(Exception):
    """The server does not answer any more, or not to us."""


class ServerEngine:
    """vLLM behind its server."""

    def __init__(self, http: Http, model: str, context: int, concurrency: int) -> None:
        self._http = http
        self._model = model
        self._context = context
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="vllm-server")
        self._futures: dict[Future[Answer | AskFailure], str] = {}
        self._gone: ServerGoneError | None = None

    @classmethod
    def open(cls, config: Settings, models: set[str]) -> "ServerEngine":
        """Raises EndpointError for a server that is not there or no vLLM, RecipeError for one with another model.

        `models` are the names the policy goes by: its path, its Hub id.
        """
        http = Http(config.endpoint, config.api_key_env, config.timeout_s)
        served = _served(http)
        root = str(served.get("root"))
        if not any(_is_same(root, model) for model in models):
            raise RecipeError(
                f"vLLM server at {http.shown} serves {root!r}, expected the recipe's policy {min(models)!r}: start it "
                f"with --model {min(models)}, or name its model as the policy"
            )
        return cls(http, str(served["id"]), int(cast(int, served["max_model_len"])), config.batch_size)

    @property
    def context(self) -> int:
        return self._context

    @property
    def busy(self) -> bool:
        return bool(self._futures)

    def submit(self, ask: Ask) -> None:
        self._futures[self._pool.submit(self._asked, self._http, ask)] = ask.id

    def finished(self) -> Sequence[Outcome]:
        while self._futures:
            done, _ = wait(self._futures, return_when=FIRST_COMPLETED)
            if outcomes := [o for future in done if (o := self._outcome(future)) is not None]:
                return outcomes
        if self._gone is not None:
            gone, self._gone = self._gone, None
            raise EndpointError(
                f"vLLM server at {self._http.shown} {gone}: start it again and build again, what was drawn is kept"
            )
        return ()

    def cancel(self) -> None:
        for future in self._futures:
            future.cancel()
        self._http.hang_up()
        wait(self._futures)
        self._futures.clear()
        self._http = self._http.anew()

    def load(self, files: Sequence[str], label: str) -> None:
        self._development("/pause?mode=wait")
        try:
            self._development("/collective_rpc", {"method": "prefkit_load", "args": [list(files), label]})
        finally:
            self._development("/resume")

    def reset_cache(self) -> None:
        if not self._development("/reset_prefix_cache").get("success"):
            raise SyncError(
                f"vLLM server at {self._http.shown} could not reset its prefix cache, expected no requests under way: "
                f"leave it to one client, and sync again"
            )

    def label(self) -> str | None:
        """None as well from a server without development mode, whose weights nobody can have replaced."""
        status, body = self._http.post("/collective_rpc", {"method": "prefkit_weights"})
        if status != HTTPStatus.OK:
            return None
        (first, *_) = cast("Sequence[Mapping[str, str | None]]", _object(body)["results"])
        return first["label"]

    def close(self) -> None:
        self.cancel()
        self._pool.shutdown()

    def require_processed_logprobs(self, prompt_ids: Sequence[int]) -> None:
        """Raises RecipeError when the server reports log-probs from before temperature, top-p and top-k."""
        room = self._context - len(prompt_ids)
        ask = Ask("hot", prompt_ids, seed=0, max_tokens=min(BABBLE, room), temperature=HOTTEST)
        hot = answered(self, [ask])[ask.id]
        if isinstance(hot, AskFailure):
            raise EndpointError(f"vLLM server at {self._http.shown} refuses a plain request: {hot.detail}")
        read = answered(self, [reading("read", prompt_ids, hot.token_ids)])["read"]
        if isinstance(read, AskFailure):
            raise EndpointError(f"vLLM server at {self._http.shown} refuses to read a completion: {read.detail}")
        raw = read_logprobs(read, len(hot.token_ids))
        if all(abs(a - b) < SAME_MODE for a, b in zip(hot.logprobs, raw, strict=True)):
            raise RecipeError(
                f"vLLM server at {self._http.shown} reports log-probs from before temperature, top_p and top_k, "
                f"expected those that were sampled from: start it with --logprobs-mode processed_logprobs, or sample "
                f"at temperature 1 without top_p and top_k"
            )

    def _outcome(self, future: Future[Answer | AskFailure]) -> Outcome | None:
        id = self._futures.pop(future)
        if future.cancelled():
            return None
        match future.exception():
            case None:
                return id, future.result()
            case ServerGoneError() as gone:
                self._gone = self._gone or gone
                for other in self._futures:
                    other.cancel()
                return None
            case error:
                raise error

    def _asked(self, http: Http, ask: Ask) -> Answer | AskFailure:
        try:
            status, body = http.post("/v1/completions", _body(ask, self._model))
        except TimeoutError:
            return AskFailure(SampleFailureKind.TIMEOUT, f"no answer within {http.timeout_s:g} s")
        except UnreachableError as error:
            _require_health(http, str(error))
            return AskFailure(SampleFailureKind.CONNECTION, str(error))
        if status == HTTPStatus.OK:
            return _answer(ask, body)
        said = _said(body)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            _require_health(http, f"answers {status}: {said}")
            return AskFailure(SampleFailureKind.CONNECTION, f"{status}: {said}")
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
            raise ServerGoneError(f"answers {status}: {said}")
        return AskFailure(SampleFailureKind.REFUSED, f"{status}: {said}")

    def _development(self, route: str, body: Json = None) -> Mapping[str, object]:
        try:
            status, answer = self._http.post(route, body, RELOAD_S)
        except (TimeoutError, UnreachableError) as error:
            raise SyncError(f"vLLM server at {self._http.shown} broke off {route}: {error}; start it again") from None
        if status == HTTPStatus.NOT_FOUND:
            raise SyncError(
                f"vLLM server at {self._http.shown} has no {route}, expected one in development mode: start it with "
                f"VLLM_SERVER_DEV_MODE=1 and --worker-extension-cls prefkit.engines.vllm.worker.WeightReload"
            )
        if status != HTTPStatus.OK:
            raise SyncError(
                f"vLLM server at {self._http.shown} failed in {route} ({status}: {_said(answer)}): start it again"
            )
        return _object(answer)


def _require_health(http: Http, trouble: str) -> None:
    try:
        status, _ = http.get("/health", HEALTH_S)
    except (TimeoutError, UnreachableError):
        raise ServerGoneError(f"is gone ({trouble})") from None
    if status != HTTPStatus.OK:
        raise ServerGoneError(f"is ill ({trouble})")


def _served(http: Http) -> Mapping[str, object]:
    expected = "expected a vLLM server: check `endpoint`, its base URL"
    try:
        status, body = http.get("/v1/models", HEALTH_S)
    except (TimeoutError, UnreachableError) as error:
        raise EndpointError(
            f"vLLM server at {http.shown} cannot be reached ({error}): start it and build again"
        ) from None
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise EndpointError(f"vLLM server at {http.shown} refuses {http.key_name} ({status}): check `api_key_env`")
    models = cast("Sequence[Mapping[str, object]] | None", _object(body).get("data"))
    if status != HTTPStatus.OK or not models or "max_model_len" not in models[0]:
        raise EndpointError(f"endpoint {http.shown} answers {status}, {expected}, ending in /v1")
    return models[0]


def _is_same(root: str, model: str) -> bool:
    if root == model:
        return True
    here, there = Path(model).expanduser(), Path(root)
    return here.is_dir() and there.is_dir() and here.samefile(there)


def _body(ask: Ask, model: str) -> dict[str, Json]:
    return {
        "model": model,
        "prompt": list(ask.prompt_ids),
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
        **parameters(ask),
    }


def _answer(ask: Ask, body: bytes) -> Answer | AskFailure:
    (choice, *_) = cast("Sequence[_Choice]", _object(body).get("choices") or [{}])
    reason, token_ids, logprobs = choice.get("finish_reason"), choice.get("token_ids"), choice.get("logprobs")
    if reason is not None and reason not in ("stop", "length"):
        return AskFailure(SampleFailureKind.ABORTED, f"vLLM ended it: {reason}")
    if reason is None or token_ids is None or logprobs is None:
        raise ServerGoneError("returns no token ids with their log-probs, expected vLLM >= 0.28")
    of_prompt = zip(ask.prompt_ids[1:], (choice.get("prompt_logprobs") or ())[1:], strict=False)
    return Answer(
        token_ids=token_ids,
        logprobs=logprobs["token_logprobs"],
        finish_reason=reason,
        prompt_logprobs=[entry[str(token)]["logprob"] for token, entry in of_prompt if entry is not None],
        read_logprob=_read(logprobs, ask.read_token),
    )


def _read(logprobs: "_Logprobs", token: int | None) -> float | None:
    if token is None:
        return None
    return (logprobs["top_logprobs"] or ({},))[0].get(f"token_id:{token}")


def _said(body: bytes) -> str:
    """The message of an error, in one line."""
    content = _object(body)
    error = content.get("error", content)
    message = cast("Mapping[str, object]", error).get("message") if isinstance(error, dict) else error
    return str(message or body.decode(errors="replace")).strip().partition("\n")[0][:LONGEST_MESSAGE]


def _object(body: bytes) -> Mapping[str, object]:
    """The JSON object in a body, empty when it holds none."""
    try:
        content: object = json.loads(body)
    except ValueError:
        return {}
    return cast("Mapping[str, object]", content) if isinstance(content, dict) else {}
