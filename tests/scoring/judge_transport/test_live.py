import asyncio
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from prefkit.errors import EndpointError, MissingExtraError, RecipeError
from prefkit.scoring.judge.calls import Call, CallFailure, Reply, Transport
from prefkit.scoring.judge.live import LiveTransport
from prefkit.scoring.protocol import ScoreFailureKind
from prefkit.spending import Budget
from prefkit.testing import FakeEndpoint, Fault, Script
from tests.scoring.judge_transport.builders import calls, drained, endpoint, failures, live, replies

STRUCK = (
    Fault.REFUSAL,
    Fault.MALFORMED,
    Fault.CUT_OFF,
    Fault.NO_USAGE,
    Fault.INVALID_JSON,
    Fault.HTML,
    Fault.RATE_LIMIT,
    Fault.SERVER_ERROR,
    Fault.DISCONNECT,
    Fault.HANG,
)
MIXED = dict.fromkeys(STRUCK, 0.02)


def test_send_over_mixed_faults_ends_every_call_once():
    with FakeEndpoint(Script(faults=MIXED, retry_after="0.02")) as fake:
        answers = drained(live(fake.url, timeout_s=1.0), calls(150))
    assert answers.keys() == {call.id for call in calls(150)}
    # Every fault is transient at this rate: six attempts in a row are struck once in 16,000 calls.
    assert Counter(type(answer) for answer in answers.values()) == {Reply: 150}


def test_send_what_it_charges_is_what_was_billed_and_what_the_rows_say():
    budget = Budget()
    with FakeEndpoint() as fake:
        answers = drained(live(fake.url, budget), calls(20))
        bill = fake.billed
    told = replies(answers.values())
    assert sum(reply.spent.input_tokens for reply in told) == bill.input_tokens
    assert sum(reply.spent.output_tokens for reply in told) == bill.output_tokens
    assert budget.spent.money / 1e12 == pytest.approx(bill.usd, rel=1e-9)
    assert sum(reply.spent.cost or 0 for reply in told) == pytest.approx(bill.usd, rel=1e-9)


@pytest.mark.parametrize(
    "fault", [Fault.HANG, Fault.DISCONNECT, Fault.SERVER_ERROR, Fault.INVALID_JSON, Fault.NO_USAGE]
)
def test_send_what_may_have_been_billed_unseen_stays_charged_as_reserved(fault: Fault):
    budget = Budget(tokens=100_000)
    with FakeEndpoint(Script(faults={fault: 0.5})) as fake:
        drained(live(fake.url, budget, timeout_s=0.2), calls(8))
        billed = fake.billed.input_tokens + fake.billed.output_tokens
    assert budget.spent.tokens > billed > 0


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.HANG, "timeout"),
        (Fault.DISCONNECT, "connection"),
        (Fault.SERVER_ERROR, "connection"),
        (Fault.UNAVAILABLE, "connection"),
        (Fault.RATE_LIMIT, "connection"),
    ],
)
def test_send_to_an_endpoint_that_never_works_gives_failures_of_one_kind(fault: Fault, kind: str):
    with FakeEndpoint(Script(faults={fault: 1.0}, retry_after="0")) as fake:
        answers = drained(live(fake.url, timeout_s=0.1), calls(3))
        attempts = len(fake.requests)
    assert [failure.kind for failure in failures(answers.values())] == [ScoreFailureKind(kind)] * 3
    assert attempts == 3 * 6


def test_send_of_a_text_beyond_the_context_fails_alone():
    with FakeEndpoint(Script(context_tokens=400)) as fake:
        long = Call("long", [{"role": "user", "content": "quality=0.5 " * 200}], 100)
        answers = drained(live(fake.url), [long, *calls(3)])
    failure = answers.pop("long")
    assert isinstance(failure, CallFailure)
    assert failure.kind is ScoreFailureKind.TOO_LONG
    assert failure.spent is None
    assert len(replies(answers.values())) == 3


def test_send_with_a_slow_sibling_yields_the_others_first():
    with FakeEndpoint(Script(slow_s=1.0, faults={Fault.SLOW: 0.1})) as fake:
        order = [call.id for batch in live(fake.url, concurrency=32).send(calls(32)) for call, _ in batch]
        struck = {bytes(e.request.body) for e in fake.requests if e.fault is Fault.SLOW}
    late = {call.id for call in calls(32) if any(f"answer {call.id[5:]}:".encode() in body for body in struck)}
    assert late
    assert set(order[-len(late) :]) == late


def test_send_never_has_more_in_flight_than_allowed():
    with FakeEndpoint(Script(latency_s=0.02)) as fake:
        drained(live(fake.url, concurrency=5), calls(40))
        assert fake.most_in_flight == 5


def test_send_to_a_caller_that_stores_slowly_does_not_run_ahead():
    with FakeEndpoint() as fake:
        sending = live(fake.url, concurrency=4).send(calls(200))
        next(sending)
        threading.Event().wait(0.5)
        assert len(fake.requests) <= 2 * 4 + 3
        sending.close()


def test_send_that_is_closed_hands_its_finished_replies_to_the_next():
    with FakeEndpoint() as fake:
        transport = live(fake.url, concurrency=4)
        first = transport.send(calls(8))
        taken = [call.id for call, _ in next(first)]
        threading.Event().wait(0.3)
        first.close()
        left = [call for call in calls(8) if call.id not in taken]
        assert drained(transport, left).keys() == {call.id for call in left}
        # Nothing that was finished is paid again: every question was asked once.
        assert max(Counter(entry.request.body for entry in fake.requests).values()) == 1


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Jobs that a shell starts in the background ignore SIGINT, and their children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_send_interrupted_from_the_keyboard_yields_what_is_finished_and_then_raises():
    seen: list[str] = []

    def collect(transport: Transport) -> None:
        for batch in transport.send(calls(32)):
            seen.extend(call.id for call, answer in batch if isinstance(answer, Reply))

    def interrupt(fake: FakeEndpoint, thread: int) -> None:
        while len(fake.requests) < 32 or len(seen) < 16:  # all are under way, and most are answered
            threading.Event().wait(0.05)
        signal.pthread_kill(thread, signal.SIGINT)

    with FakeEndpoint(Script(slow_s=60.0, faults={Fault.SLOW: 0.2})) as fake:
        threading.Thread(target=interrupt, args=(fake, threading.get_ident())).start()
        with pytest.raises(KeyboardInterrupt):
            collect(live(fake.url, concurrency=32, timeout_s=90.0))
        answered = sum(entry.fault is None for entry in fake.requests)
    assert 16 <= len(seen) <= answered < 32


def test_send_works_in_a_thread_and_under_a_running_loop():
    with FakeEndpoint() as fake:
        transport = live(fake.url)

        async def inside() -> int:
            return len(drained(transport, calls(3)))

        assert asyncio.run(inside()) == 3
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(len(drained(transport, calls(4)))))
        thread.start()
        thread.join()
        assert found == [4]


def test_budget_of_money_is_used_and_never_exceeded():
    for seed in range(2):
        # A call reserves about 350 input tokens of which 40 are used, and 100 output tokens of which about 12 are.
        with FakeEndpoint(Script(latency_s=0.005, seed=seed)) as fake:
            budget = Budget(usd=0.05)
            answers = drained(live(fake.url, budget, concurrency=64), calls(400))
            assert 0.95 * 0.05 <= fake.billed.usd <= 0.05
        turned_away = failures(answers.values())
        assert len(answers) == 400
        assert turned_away
        assert {failure.kind for failure in turned_away} == {ScoreFailureKind.OVER_BUDGET}


def test_budget_under_faults_is_never_exceeded():
    with FakeEndpoint(Script(faults=MIXED)) as fake:
        budget = Budget(tokens=20_000)
        drained(live(fake.url, budget, concurrency=64, timeout_s=0.3), calls(300))
        assert fake.billed.input_tokens + fake.billed.output_tokens <= budget.spent.tokens <= 20_000


def test_budget_shared_by_two_threads_lets_both_work_and_both_end():
    budget = Budget(tokens=5_000)
    ended: list[dict[str, Reply | CallFailure]] = []
    with FakeEndpoint(Script(latency_s=0.002)) as fake:
        asked = [calls(400)[:200], calls(400)[200:]]
        threads = [
            threading.Thread(target=lambda part=part: ended.append(drained(live(fake.url, budget), part)))
            for part in asked
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert fake.billed.input_tokens + fake.billed.output_tokens <= 5_000
    assert [len(answers) for answers in ended] == [200, 200]
    assert all(replies(answers.values()) and failures(answers.values()) for answers in ended)


ONE_LINE = r"^judge '[^\n]+$"


@pytest.mark.parametrize("script", [Script(key="sk-right-key"), Script(faults={Fault.UNAUTHORIZED: 1.0})])
def test_wrong_key_is_one_line_without_the_key(script: Script, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JUDGE_KEY", "sk-wrong-key")
    with FakeEndpoint(script) as fake:
        with pytest.raises(EndpointError, match=ONE_LINE) as caught:
            drained(live(fake.url, api_key_env="JUDGE_KEY"), calls(50))
        assert len(fake.requests) <= 16
    assert "JUDGE_KEY" in str(caught.value)
    assert "sk-" not in str(caught.value)


def test_unknown_model_web_page_and_absent_server_are_one_line_each():
    with FakeEndpoint(Script(model="other")) as fake, pytest.raises(EndpointError, match=ONE_LINE):
        drained(live(fake.url), calls(50))
    with FakeEndpoint(Script(faults={Fault.HTML: 1.0})) as fake, pytest.raises(EndpointError, match="a web page"):
        drained(live(fake.url), calls(50))
    with FakeEndpoint() as gone:
        url = gone.url
    with pytest.raises(EndpointError, match=r"cannot be reached \("):
        drained(live(url), calls(50))


def test_endpoint_that_goes_away_in_the_middle_loses_no_reply():
    with FakeEndpoint(Script(latency_s=0.01)) as fake:
        sending = live(fake.url, concurrency=4).send(calls(200))
        taken = [pair for _ in range(5) for pair in next(sending)]
        fake.script = Script(key="sk-other")
        with pytest.raises(EndpointError):
            taken.extend(pair for batch in sending for pair in batch)
        answered = sum(entry.fault is None for entry in fake.requests)
    assert len(taken) == answered


def test_key_travels_in_the_header_alone_and_is_taken_out_of_echoes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JUDGE_KEY", "sk-very-secret")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-house")
    with FakeEndpoint(Script(key="sk-very-secret", judge=lambda asked: "your key is sk-very-secret")) as fake:
        answers = drained(live(fake.url, api_key_env="JUDGE_KEY"), calls(2))
        for entry in fake.requests:
            rest = {name: value for name, value in entry.request.headers.items() if name != "authorization"}
            assert "sk-very-secret" not in repr((entry.request.path, entry.request.body, rest))
    assert {reply.text for reply in replies(answers.values())} == {"your key is [api key]"}
    with FakeEndpoint() as fake:
        drained(live(fake.url), calls(1))
        assert "sk-of-another-house" not in repr(fake.requests)


def test_settings_that_cannot_be_obeyed_are_refused_before_any_call(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(RecipeError, match="environment variable JUDGE_KEY, which is not set"):
        live("http://127.0.0.1:1/v1", api_key_env="JUDGE_KEY")
    with pytest.raises(RecipeError, match="expected a URL"):
        live("localhost:8000")
    with pytest.raises(RecipeError, match="has no price"):
        live("http://127.0.0.1:1/v1", Budget(usd=1.0), price=None)
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingExtraError, match=r"prefkit\[judge\]"):
        LiveTransport(endpoint("http://127.0.0.1:1/v1"))


def test_endpoint_with_the_newer_name_of_the_limit_is_understood():
    with FakeEndpoint(Script(length_parameter="max_completion_tokens")) as fake:
        assert len(replies(drained(live(fake.url), calls(20)).values())) == 20
