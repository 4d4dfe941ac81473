"""The Batch API of a fake endpoint: files are uploaded, a batch over one is created, polled, and leaves two files."""

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from prefkit.testing.chat import refused
from prefkit.testing.faults import Fault
from prefkit.testing.loopback import Answer, Request
from prefkit.testing.script import Script

Attempt = Callable[[bytes], tuple[Answer, Fault | None]]
"""Answers, and bills, the body of a chat request."""

_CUT_BODIES = (Fault.HANG, Fault.DISCONNECT)


@dataclass(slots=True)
class Batch:
    """One submitted batch; `output` and `errors` are files, once it ended."""

    id: str
    input: str
    ends: float
    status: str = "in_progress"
    output: str | None = None
    errors: str | None = None


class Batches:
    """Everything that was uploaded and submitted, in order."""

    def __init__(self, attempt: Attempt) -> None:
        self.files: dict[str, bytes] = {}
        self.submitted: list[Batch] = []
        self._attempt = attempt

    def answer(self, script: Script, request: Request, path: str) -> Answer:
        """Serves one request under `/files` or `/batches`."""
        match request.method, path.strip("/").split("/"):
            case "POST", ["files"]:
                return _json({"object": "file", "purpose": "batch", "id": self._stored(_uploaded(request))})
            case "GET", ["files", name, "content"] if name in self.files:
                return Answer(200, self.files[name], content_type="application/octet-stream")
            case "POST", ["batches"]:
                return self._created(script, cast("dict[str, str]", json.loads(request.body)))
            case "GET", ["batches"]:
                listed = [self._shown(batch) for batch in reversed(self.submitted)]
                return _json({"object": "list", "data": listed, "has_more": False})
            case "GET", ["batches", name] if any(batch.id == name for batch in self.submitted):
                batch = next(batch for batch in self.submitted if batch.id == name)
                self._advance(script, batch)
                return _json(self._shown(batch))
            case _:
                return refused(404, f"Not found: {path}", "not_found")

    def _created(self, script: Script, asked: dict[str, str]) -> Answer:
        if asked.get("input_file_id") not in self.files:
            return refused(400, f"No such file: {asked.get('input_file_id')}", "invalid_request_error")
        name = f"batch_{len(self.submitted)}"
        self.submitted.append(Batch(name, asked["input_file_id"], time.monotonic() + script.batch_s))
        return _json(self._shown(self.submitted[-1]))

    def _advance(self, script: Script, batch: Batch) -> None:
        if batch.status != "in_progress" or time.monotonic() < batch.ends:
            return
        batch.status = script.batch_fate
        if script.batch_fate == "failed":
            return
        lines = [json.loads(line) for line in self.files[batch.input].splitlines() if line]
        output: list[object] = []
        errors: list[object] = []
        for number, line in enumerate(lines):
            if script.batch_fate == "expired" and number % 2:
                says = {"code": "batch_expired", "message": "This request could not be executed in time."}
                errors.append({"custom_id": line["custom_id"], "response": None, "error": says})
            else:
                answer, fault = self._attempt(json.dumps(line["body"]).encode())
                status = 500 if fault in _CUT_BODIES else answer.status
                entry = {"custom_id": line["custom_id"], "response": _response(status, answer.body), "error": None}
                (output if status == 200 else errors).append(entry)
        batch.output = self._stored(_lines(output)) if output else None
        batch.errors = self._stored(_lines(errors)) if errors else None

    def _shown(self, batch: Batch) -> dict[str, object]:
        failed = {"object": "list", "data": [{"code": "invalid_json_line", "message": "Line 1 is not valid JSON."}]}
        return {
            "id": batch.id,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "created_at": 0,
            "input_file_id": batch.input,
            "status": batch.status,
            "output_file_id": batch.output,
            "error_file_id": batch.errors,
            "errors": failed if batch.status == "failed" else None,
        }

    def _stored(self, content: bytes) -> str:
        name = f"file-{len(self.files)}"
        self.files[name] = content
        return name


def _response(status: int, body: bytes) -> dict[str, object]:
    try:
        return {"status_code": status, "body": json.loads(body)}
    except ValueError:
        return {"status_code": status, "body": body.decode(errors="replace")}


def _uploaded(request: Request) -> bytes:
    boundary = re.search(r"boundary=\"?([^\";]+)", request.headers["content-type"])
    assert boundary is not None
    parts = request.body.split(b"--" + boundary[1].encode())
    file = next(part for part in parts if b'name="file"' in part.partition(b"\r\n\r\n")[0])
    return file.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")


def _lines(entries: list[object]) -> bytes:
    return b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)


def _json(document: object) -> Answer:
    return Answer(200, json.dumps(document).encode())
