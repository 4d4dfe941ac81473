import json

import pytest

from prefkit.scoring.judge.answers import Answered, Blame, Trouble, outcome
from prefkit.scoring.judge.wire import Tokens
from prefkit.scoring.protocol import ScoreFailureKind

PAGE = b"<!DOCTYPE html><html>Welcome</html>"


def completion(**changes: object) -> bytes:
    message = {"role": "assistant", "content": "fine"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 9, "completion_tokens": 3}
    return json.dumps({"choices": [choice], "usage": usage} | changes).encode()


def trouble(status: int, body: object) -> Trouble:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = outcome(status, {}, content)
    assert isinstance(found, Trouble)
    return found


def test_completion_is_read_whole():
    assert outcome(200, {}, completion()) == Answered("fine", "stop", None, Tokens(9, 3))


def test_content_in_parts_is_joined_and_absent_content_is_empty():
    parts = [{"type": "text", "text": "fi"}, {"type": "image"}, {"type": "text", "text": "ne"}]
    for content, text in ((parts, "fine"), (None, "")):
        answered = outcome(200, {}, completion(choices=[{"message": {"content": content}, "finish_reason": None}]))
        assert answered == Answered(text, None, None, Tokens(9, 3))


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 0, "completion_tokens": 0}, {"prompt_tokens": "9"}, 7])
def test_usage_that_says_nothing_is_unknown(usage: object):
    answered = outcome(200, {}, completion(usage=usage))
    assert isinstance(answered, Answered)
    assert answered.used is None


@pytest.mark.parametrize(
    ("status", "body", "kind", "blame"),
    [
        (200, PAGE, "unparsable", Blame.DOUBTFUL),
        (200, b'{"choices": [{"mess', "unparsable", Blame.DOUBTFUL),
        (200, {"choices": []}, "unparsable", Blame.DOUBTFUL),
        (200, {"error": {"message": "upstream is down", "code": 502}}, "connection", Blame.CALL),
        (400, {"error": {"message": "maximum context length is 8192 tokens"}}, "too_long", Blame.CALL),
        (400, {"error": {"message": "x", "code": "context_length_exceeded"}}, "too_long", Blame.CALL),
        (400, {"message": "the prompt is too long: 9 > 8"}, "too_long", Blame.CALL),
        (413, PAGE, "too_long", Blame.CALL),
        (400, {"error": {"message": "no", "code": "content_filter"}}, "refused", Blame.CALL),
        (403, {"error": {"message": "your input was flagged"}}, "refused", Blame.CALL),
        (403, {"error": {"message": "forbidden"}}, "refused", Blame.DOUBTFUL),
        (422, {"detail": [{"msg": "field required"}]}, "refused", Blame.DOUBTFUL),
        (401, {"error": {"message": "no"}}, "connection", Blame.ENDPOINT),
        (402, {"error": {"message": "pay"}}, "connection", Blame.ENDPOINT),
        (404, PAGE, "connection", Blame.ENDPOINT),
        (429, {"error": {"message": "x", "code": "insufficient_quota"}}, "connection", Blame.ENDPOINT),
        (429, {"error": {"message": "slow down"}}, "connection", Blame.CALL),
        (500, PAGE, "connection", Blame.CALL),
    ],
)
def test_trouble_is_named_and_blamed(status: int, body: object, kind: str, blame: Blame):
    found = trouble(status, body)
    assert (found.kind, found.blame) == (ScoreFailureKind(kind), blame)
    assert "\n" not in found.detail


def test_trouble_that_may_have_been_billed_is_any_but_a_rejection():
    assert [trouble(status, PAGE).billable for status in (200, 500, 503, 408)] == [True] * 4
    assert [trouble(status, PAGE).billable for status in (400, 401, 403, 404, 413, 422, 429)] == [False] * 7


def test_trouble_keeps_nothing_of_the_answer_to_a_wrong_key():
    assert "sk-123" not in repr(trouble(401, {"error": {"message": "Incorrect API key provided: sk-123"}}))
