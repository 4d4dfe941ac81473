import http.client
import json
import threading
import urllib.error
import urllib.request
from typing import Any

import pytest

from prefkit.testing import FakeEndpoint, Fault, Script


def post(url: str, body: dict[str, object], key: str = "none") -> Any:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    request = urllib.request.Request(f"{url}/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def question(text: str, **settings: object) -> dict[str, object]:
    return {"model": "judge", "messages": [{"role": "user", "content": text}], "max_tokens": 50} | settings


def test_endpoint_bills_what_it_reports():
    with FakeEndpoint(Script(price=(1.0, 2.0))) as endpoint:
        usages = [post(endpoint.url, question(f"quality=0.{i}"))["usage"] for i in range(3)]
    read, written = (sum(usage[name] for usage in usages) for name in ("prompt_tokens", "completion_tokens"))
    assert (endpoint.billed.input_tokens, endpoint.billed.output_tokens) == (read, written)
    assert endpoint.billed.usd == pytest.approx((read + 2 * written) / 1e6)


def test_endpoint_cuts_replies_at_the_limit():
    with FakeEndpoint(Script(judge=lambda asked: "word " * 100)) as endpoint:
        reply = post(endpoint.url, question("x", max_tokens=10))
    assert reply["choices"][0]["finish_reason"] == "length"
    assert len(reply["choices"][0]["message"]["content"]) == 40
    assert endpoint.billed.output_tokens == 10


@pytest.mark.parametrize(
    ("script", "status"),
    [
        (Script(faults={Fault.RATE_LIMIT: 1.0}, retry_after="3"), 429),
        (Script(faults={Fault.SERVER_ERROR: 1.0}), 500),
        (Script(faults={Fault.UNAVAILABLE: 1.0}), 503),
        (Script(key="sk-other"), 401),
        (Script(model="other"), 404),
        (Script(context_tokens=20), 400),
    ],
)
def test_endpoint_answers_mistakes_and_faults_with_their_status(script: Script, status: int):
    with FakeEndpoint(script) as endpoint, pytest.raises(urllib.error.HTTPError) as caught:
        post(endpoint.url, question("quality=0.5"))
    assert caught.value.code == status
    assert caught.value.headers.get("Retry-After") == ("3" if status == 429 else None)
    assert (endpoint.billed.usd > 0) == (status == 500)
    caught.value.close()


def test_endpoint_that_breaks_off_has_billed():
    with FakeEndpoint(Script(faults={Fault.DISCONNECT: 1.0})) as endpoint:
        with pytest.raises(http.client.IncompleteRead):
            post(endpoint.url, question("quality=0.5"))
        assert endpoint.billed.output_tokens > 0


def test_endpoint_serves_64_connections_at_once():
    everybody = threading.Barrier(64)

    def ask(number: int) -> None:
        everybody.wait()
        post(endpoint.url, question(f"{number}: quality=0.5"))

    with FakeEndpoint(Script(latency_s=1.0)) as endpoint:
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(endpoint.requests) == 64
        assert endpoint.most_in_flight > 32


def test_endpoint_gives_the_same_replies_in_any_order():
    def texts(order: list[int]) -> dict[int, object]:
        with FakeEndpoint(Script(faults={Fault.MALFORMED: 0.5})) as endpoint:
            return {n: post(endpoint.url, question(f"{n}: quality=0.{n}"))["choices"] for n in order}

    assert texts([1, 2, 3, 4]) == texts([4, 2, 3, 1])


def test_endpoint_on_a_port_in_use_says_so():
    with FakeEndpoint() as first, pytest.raises(OSError, match="in use"):
        FakeEndpoint(port=first.port).__enter__()
