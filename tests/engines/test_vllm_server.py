"""The client of vLLM's server against one that answers and fails as vLLM does; the real one has tests elsewhere."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("torch")

from prefkit.engines.vllm.asks import Answer, Ask, AskFailure, answered, read_logprobs, reading
from prefkit.engines.vllm.server import ServerEngine
from prefkit.errors import EndpointError, RecipeError, SyncError
from prefkit.sampling.config import VllmServerSampler
from prefkit.sampling.protocol import SampleFailureKind
from prefkit.testing.loopback import Answer as HttpAnswer
from prefkit.testing.loopback import LoopbackServer, Request

KEY = "sk-very-secret"
Completion = Callable[[dict[str, object]], HttpAnswer]


def sent(content: object, status: int = 200) -> HttpAnswer:
    return HttpAnswer(status, json.dumps(content).encode())


def completion(body: dict[str, object]) -> HttpAnswer:
    """Counts on from the prompt's last token; a token's log-prob is minus its number."""
    prompt, count = body["prompt"], body["max_tokens"]
    assert isinstance(prompt, list)
    assert isinstance(count, int)
    ids = [prompt[-1] + 1 + i for i in range(count)]
    wanted = body["logprob_token_ids"]
    tops = [{f"token_id:{t}": -float(t) for t in (wanted if isinstance(wanted, list) else [ids[0]])}]
    read = [None, *({str(t): {"logprob": -float(t)}} for t in prompt[1:])]
    choice = {
        "finish_reason": "length", "token_ids": ids, "text": "",
        "logprobs": {"token_logprobs": [-float(t) for t in ids], "top_logprobs": tops},
        "prompt_logprobs": read if body["prompt_logprobs"] is not None else None,
    }  # fmt: skip
    return sent({"choices": [choice]})


@contextmanager
def serving(
    complete: Completion = completion, health: int = 200, key: str | None = None, root: str = "/models/policy"
) -> Iterator[LoopbackServer]:
    async def handle(request: Request) -> HttpAnswer:
        if key is not None and request.headers.get("authorization") != f"Bearer {key}":
            return sent({"error": {"message": f"wrong key {request.headers.get('authorization')}"}}, 401)
        match request.path:
            case "/v1/models":
                return sent({"data": [{"id": "served", "root": root, "max_model_len": 512}]})
            case "/v1/completions":
                answer = complete(json.loads(request.body))
                if answer.status == 408:
                    await asyncio.Event().wait()
                return answer
            case "/health":
                return HttpAnswer(health, b"")
            case _:
                return sent({"detail": "Not Found"}, 404)

    server = LoopbackServer(handle)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def engine(server: LoopbackServer, **given: object) -> ServerEngine:
    base = {"backend": "vllm_server", "endpoint": f"http://127.0.0.1:{server.port}/v1", "batch_size": 4}
    return ServerEngine.open(VllmServerSampler.model_validate(base | given), {"/models/policy"})


def asks(count: int) -> list[Ask]:
    return [Ask(str(i), [5, 100 * i], seed=i, max_tokens=3) for i in range(count)]


def test_asks_are_answered_each_with_its_own_tokens_and_logprobs():
    with serving() as server:
        answers = answered(engine(server), asks(9))
    expected = {str(i): [100 * i + k for k in (1, 2, 3)] for i in range(9)}
    assert {id: a.token_ids for id, a in answers.items() if isinstance(a, Answer)} == expected
    assert {id: a.logprobs for id, a in answers.items() if isinstance(a, Answer)} == {
        id: [-float(t) for t in ids] for id, ids in expected.items()
    }


def test_reading_of_a_completion_gives_the_logprob_of_each_of_its_tokens():
    for completion_ids in ([7, 9, 4], [7]):
        with serving() as server:
            answer = answered(engine(server), [reading("r", [5, 6], completion_ids)])["r"]
        assert isinstance(answer, Answer)
        assert read_logprobs(answer, len(completion_ids)) == [-float(t) for t in completion_ids]


@pytest.mark.parametrize(
    ("answer", "kind", "transient"),
    [
        (sent({"error": {"message": "token id 9 is out of vocabulary"}}, 400), SampleFailureKind.REFUSED, False),
        (sent({"error": {"message": "overloaded"}}, 503), SampleFailureKind.CONNECTION, True),
        (sent({"choices": [{"finish_reason": "abort", "token_ids": [1]}]}), SampleFailureKind.ABORTED, True),
        (HttpAnswer(200, b"{}" * 50, cut=True), SampleFailureKind.CONNECTION, True),
        (HttpAnswer(408, b""), SampleFailureKind.TIMEOUT, True),
    ],
    ids=["refused", "unavailable", "aborted", "cut", "hangs"],
)
def test_failure_of_one_ask_is_its_own(answer: HttpAnswer, kind: SampleFailureKind, transient: bool):
    with serving(lambda body: answer if body["seed"] == 3 else completion(body)) as server:
        answers = answered(engine(server, timeout_s=0.5), asks(8))
    failed = {id: a for id, a in answers.items() if isinstance(a, AskFailure)}
    assert {id: a.kind for id, a in failed.items()} == {"3": kind}
    assert kind.transient == transient
    assert len(answers) == 8


def test_server_that_is_ill_ends_the_asking_after_what_was_finished():
    with serving(lambda body: sent({}, 500) if body["seed"] == 20 else completion(body), health=503) as server:
        opened = engine(server)
        for ask in asks(60):
            opened.submit(ask)
        ids: list[str] = []

        def drain() -> None:
            while finished := opened.finished():
                ids.extend(id for id, _ in finished)

        with pytest.raises(EndpointError, match=r"is ill \(answers 500.*start it again .* what was drawn is kept"):
            drain()
    assert {str(i) for i in range(16)} <= set(ids)
    assert "20" not in ids
    assert len(ids) == len(set(ids)) < 60


def test_server_that_goes_away_ends_the_asking():
    with serving() as server:
        opened = engine(server)
        answered(opened, asks(2))
    opened.submit(asks(1)[0])
    with pytest.raises(EndpointError, match="is gone"):
        opened.finished()


def test_cancelled_asks_never_come_back_and_later_ones_do():
    with serving(lambda body: HttpAnswer(408, b"") if body["seed"] != 7 else completion(body)) as server:
        opened = engine(server)
        for ask in asks(7):
            opened.submit(ask)
        opened.cancel()
        assert not opened.busy
        assert list(answered(opened, asks(8)[7:])) == ["7"]


def test_answer_without_token_ids_is_no_vllm():
    with serving(lambda _: sent({"choices": [{"finish_reason": "stop", "text": "hello"}]})) as server:
        opened = engine(server)
        with pytest.raises(EndpointError, match="returns no token ids"):
            answered(opened, asks(1))


def test_wrong_key_is_refused_and_never_printed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VLLM_KEY", KEY)
    with serving(key="another") as server, pytest.raises(EndpointError, match="refuses the key in VLLM_KEY") as refused:
        engine(server, api_key_env="VLLM_KEY")
    assert KEY not in str(refused.value)
    with serving(key=KEY) as server:
        assert len(answered(engine(server, api_key_env="VLLM_KEY"), asks(3))) == 3


def test_servers_of_another_model_and_endpoints_that_are_none_are_refused(tmp_path: Path):
    with serving(root="/models/other") as server:
        with pytest.raises(RecipeError, match="serves '/models/other', expected the recipe's policy '/models/policy'"):
            engine(server)
        with pytest.raises(EndpointError, match="404, expected a vLLM server"):
            engine(server, endpoint=f"http://127.0.0.1:{server.port}/wrong/v1")
    for bad in ("localhost/v1", "http://localhost:8000", f"file://{tmp_path}/v1"):
        with pytest.raises(RecipeError, match=r"sample\.endpoint is .*expected a base URL"):
            ServerEngine.open(VllmServerSampler(backend="vllm_server", endpoint=bad), set())


def test_sync_without_development_mode_says_how_to_start_the_server():
    with serving() as server:
        opened = engine(server)
        assert opened.label() is None
        with pytest.raises(SyncError, match=r"start it with VLLM_SERVER_DEV_MODE=1 and --worker-extension-cls"):
            opened.load(["file"], "1")
