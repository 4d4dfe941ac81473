"""The Batch API as this package uses it: upload and submit, look, fetch. Retrying happens here, not in the client.

Submitting is the one step that must not happen twice, and the one whose answer can be lost: before it is tried again,
the provider is asked whether a batch over the same file exists.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeVar, cast

from prefkit.identity import Json
from prefkit.scoring.judge.answers import Answered, Blame, Trouble
from prefkit.scoring.judge.endpoint import CONNECT_S, Endpoint, read, unanswered
from prefkit.scoring.protocol import ScoreFailureKind

if TYPE_CHECKING:
    from openai.types import Batch

T = TypeVar("T")

NEWEST = 1_000
"""How many of the newest batches are searched for one that was submitted before."""
_EXPIRED = "batch_expired"


@dataclass(frozen=True, slots=True)
class Ended:
    """A batch that is over: an outcome for each key it has one for, and what to say about the others."""

    outcomes: Mapping[str, Answered | Trouble]
    missing: Trouble


class BatchClient:
    """The batches of one endpoint. Every method raises EndpointError when it cannot be done."""

    def __init__(self, endpoint: Endpoint, key: str) -> None:
        import httpx2
        import openai

        timeout = httpx2.Timeout(endpoint.timeout_s, connect=min(CONNECT_S, endpoint.timeout_s / 2))
        # Minutes pass between two requests: no connection is kept, so none is left open either.
        http = openai.DefaultHttpxClient(limits=httpx2.Limits(max_keepalive_connections=0))
        self._client = openai.OpenAI(
            base_url=endpoint.url, api_key=key, max_retries=0, timeout=timeout, http_client=http
        )
        self._endpoint = endpoint
        self._key = key

    def uploaded(self, bodies: Mapping[str, Mapping[str, Json]]) -> str:
        """The id of a new file that holds these requests."""
        lines = [
            json.dumps({"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body})
            for key, body in bodies.items()
        ]
        content = "\n".join(lines).encode()
        name = "requests.jsonl"
        return self._retried(lambda _: self._client.files.create(file=(name, content), purpose="batch").id)

    def submitted(self, file_id: str, perhaps_before: bool) -> str:
        """The id of the batch over this file, which is created unless it exists."""

        def submit(attempt: int) -> str:
            if attempt or perhaps_before:
                listed = islice(self._client.batches.list(limit=100), NEWEST)
                found = next((batch.id for batch in listed if batch.input_file_id == file_id), None)
                if found is not None:
                    return found
            return self._client.batches.create(
                completion_window="24h", endpoint="/v1/chat/completions", input_file_id=file_id
            ).id

        return self._retried(submit)

    def ended(self, batch_id: str) -> Ended | None:
        """The results of a batch, or None while it is under way."""
        batch = self._retried(lambda _: self._client.batches.retrieve(batch_id))
        if batch.status not in ("completed", "failed", "expired", "cancelled"):
            return None
        outcomes: dict[str, Answered | Trouble] = {}
        for file_id in (batch.output_file_id, batch.error_file_id):
            if file_id is not None:
                outcomes |= self._outcomes(self._fetched(file_id))
        return Ended(outcomes, _missing(batch))

    def _fetched(self, file_id: str) -> bytes:
        return self._retried(lambda _: self._client.files.content(file_id).content)

    def _outcomes(self, content: bytes) -> Iterable[tuple[str, Answered | Trouble]]:
        for line in content.splitlines():
            if line.strip():
                entry = cast("Mapping[str, object]", json.loads(line))
                yield str(entry["custom_id"]), self._outcome(entry)

    def _outcome(self, entry: Mapping[str, object]) -> Answered | Trouble:
        match entry:
            case {"response": {"status_code": int(status), "body": body}}:
                content = body if isinstance(body, str) else json.dumps(body)
                return read(status, {}, content.encode(), self._key)
            case {"error": {"code": str(code), **rest}}:
                kind = ScoreFailureKind.TIMEOUT if code == _EXPIRED else ScoreFailureKind.CONNECTION
                return Trouble(kind, f"{code}: {rest.get('message', '')}", billable=code != _EXPIRED)
            case _:
                return Trouble(ScoreFailureKind.CONNECTION, "the batch says nothing of this call", billable=True)

    def _retried(self, operation: Callable[[int], T]) -> T:
        import openai

        backoff, attempt = self._endpoint.backoff, 0
        while True:
            try:
                return operation(attempt)
            except openai.APIStatusError as error:
                trouble = read(error.status_code, error.response.headers, error.response.content, self._key)
            except openai.APIConnectionError as error:
                trouble = unanswered(error)
            assert isinstance(trouble, Trouble)
            if not trouble.again or attempt + 1 >= backoff.attempts:
                raise self._endpoint.mistake(trouble)
            time.sleep(backoff.drawn_delay_s(attempt, trouble.after_s))
            attempt += 1


def _missing(batch: "Batch") -> Trouble:
    kinds = ScoreFailureKind
    match batch.status:
        case "failed":
            errors = batch.errors.data if batch.errors is not None and batch.errors.data is not None else []
            says = errors[0].message if errors else "no reason given"
            return Trouble(kinds.CONNECTION, f"the batch failed: {says}", blame=Blame.CALL)
        case "expired":
            return Trouble(kinds.TIMEOUT, "the batch expired before this call was made")
        case "cancelled":
            return Trouble(kinds.CONNECTION, "the batch was cancelled before this call was made")
        case _:
            return Trouble(kinds.CONNECTION, "the batch holds no result for this call", billable=True)
