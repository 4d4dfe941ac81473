"""From the body of a chat request to the answer of a scripted endpoint and the tokens it cost: no server, no clock."""

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import cast

from prefkit.testing.faults import Fault, uniform
from prefkit.testing.judges import Asked, JsonSchema
from prefkit.testing.loopback import Answer
from prefkit.testing.script import Script

TOKENS_PER_MESSAGE = 8
PAGE = b"<!DOCTYPE html>\n<html><body><h1>Welcome to nginx!</h1></body></html>"
LENGTH_PARAMETERS = ("max_tokens", "max_completion_tokens")


def answered(script: Script, body: bytes, fault: Fault | None) -> tuple[Answer, int, int]:
    """What the endpoint sends for a request struck by `fault`, and the input and output tokens it bills for it."""
    try:
        asked = cast("Mapping[str, object]", json.loads(body))
        messages = cast("Sequence[Mapping[str, str]]", asked["messages"])
        read = sum(TOKENS_PER_MESSAGE + _tokens(message["content"], script) for message in messages)
    except (ValueError, KeyError, TypeError) as error:
        return refused(400, f"Not a chat request: {error!r}", "invalid_request_error"), 0, 0
    limit = cast("int | None", asked.get(LENGTH_PARAMETERS[0], asked.get(LENGTH_PARAMETERS[1])))
    mistake = _mistake(script, asked, read + (limit or 0))
    if mistake is not None:
        return mistake, 0, 0
    if fault is not None and not fault.billed:
        return unanswered(script, fault), 0, 0
    text, finish, written = _reply(script, body, asked, limit, fault)
    completion = _completion(script, fault, text, finish, read, written)
    if fault is Fault.SERVER_ERROR:
        completion = refused(500, "The server had an error while processing your request", "server_error")
    if fault is Fault.INVALID_JSON:
        completion = Answer(200, completion.body[: len(completion.body) // 2])
    if fault is Fault.DISCONNECT:
        completion = Answer(200, completion.body, cut=True)
    return completion, read, written


def unanswered(script: Script, fault: Fault) -> Answer:
    """What is sent where no reply was made."""
    match fault:
        case Fault.RATE_LIMIT:
            return refused(429, "Rate limit reached", "rate_limit_exceeded", {"Retry-After": script.retry_after})
        case Fault.UNAVAILABLE:
            return Answer(503, PAGE, content_type="text/html")
        case Fault.UNAUTHORIZED:
            return refused(401, "Incorrect API key provided", "invalid_api_key")
        case _:
            return Answer(200, PAGE, content_type="text/html; charset=utf-8")


def refused(status: int, message: str, code: str, headers: Mapping[str, str] | None = None) -> Answer:
    """An error as the API writes it."""
    error = {"error": {"message": message, "type": code, "param": None, "code": code}}
    return Answer(status, json.dumps(error).encode(), headers=headers or {})


def _mistake(script: Script, asked: Mapping[str, object], tokens: int) -> Answer | None:
    if asked.get("model") != script.model:
        return refused(404, f"The model `{asked.get('model')}` does not exist.", "model_not_found")
    for name in LENGTH_PARAMETERS:
        if name in asked and script.length_parameter not in (None, name):
            says = f"Unsupported parameter: '{name}' is not supported with this model. Use '{script.length_parameter}'."
            return refused(400, says, "unsupported_parameter")
    if tokens > script.context_tokens:
        says = f"This model's maximum context length is {script.context_tokens} tokens, you requested {tokens}."
        return refused(400, says, "context_length_exceeded")
    return None


def _reply(
    script: Script, body: bytes, asked: Mapping[str, object], limit: int | None, fault: Fault | None
) -> tuple[str, str, int]:
    if fault is Fault.REFUSAL:
        text = "I cannot judge this."
    elif fault is Fault.MALFORMED:
        text = "Both have their merits, and who am I to say?"
    else:
        text = script.judge(_question(body, asked, limit))
    written = _tokens(text, script)
    most = written // 2 if fault is Fault.CUT_OFF else limit
    if most is None or written <= most:
        return text, "stop", written
    return text.encode()[: most * script.bytes_per_token].decode(errors="ignore"), "length", most


def _question(body: bytes, asked: Mapping[str, object], limit: int | None) -> Asked:
    shape = cast("Mapping[str, Mapping[str, JsonSchema | None]]", asked.get("response_format") or {})
    messages = cast("Sequence[Mapping[str, str]]", asked["messages"])
    schema = shape.get("json_schema", {}).get("schema")
    return Asked(messages, schema, limit, lambda purpose: uniform(body, purpose))


def _completion(script: Script, fault: Fault | None, text: str, finish: str, read: int, written: int) -> Answer:
    refusal = text if fault is Fault.REFUSAL else None
    message = {"role": "assistant", "content": None if refusal else text, "refusal": refusal}
    document: dict[str, object] = {
        "id": "chatcmpl-" + blake2b(text.encode(), digest_size=8).hexdigest(),
        "object": "chat.completion",
        "created": 0,
        "model": script.model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
    }
    if fault is not Fault.NO_USAGE:
        usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
        document["usage"] = usage
    return Answer(200, json.dumps(document).encode())


def _tokens(text: str, script: Script) -> int:
    return -(-len(text.encode()) // script.bytes_per_token)
