import json
from pathlib import Path

import pytest

from prefkit.errors import DamageError, EndpointError, RecipeError
from prefkit.scoring.judge.batch import BatchTransport
from prefkit.scoring.judge.calls import CallFailure, Reply
from prefkit.scoring.protocol import ScoreFailureKind
from prefkit.spending import Budget
from prefkit.testing import FakeEndpoint, Fault, Script
from tests.scoring.judge_transport.builders import call, calls, drained, endpoint, failures, live, replies


def batch(fake: FakeEndpoint, folder: Path, budget: Budget | None = None, **changes: object) -> BatchTransport:
    return BatchTransport(endpoint(fake.url, **changes), folder, budget, poll_s=0.01)


def killed_while_polling(fake: FakeEndpoint, folder: Path, count: int) -> None:
    """Leaves what a process leaves that is killed after it submitted: nothing but the folder."""
    polled = batch(fake, folder)
    polled._client.ended = lambda batch_id: (_ for _ in ()).throw(ConnectionAbortedError(batch_id))
    with pytest.raises(ConnectionAbortedError):
        drained(polled, calls(count))


def test_batch_gives_the_replies_of_live_calls(tmp_path: Path):
    with FakeEndpoint(Script(batch_s=0.05)) as fake:
        at_once = drained(batch(fake, tmp_path), calls(10))
        one_by_one = drained(live(fake.url), calls(10))
    assert at_once.keys() == one_by_one.keys()
    text = {name: answer.text for name, answer in at_once.items() if isinstance(answer, Reply)}
    assert text == {name: answer.text for name, answer in one_by_one.items() if isinstance(answer, Reply)}
    assert list(tmp_path.iterdir()) == []


def test_batch_of_a_killed_process_is_polled_and_not_paid_again(tmp_path: Path):
    with FakeEndpoint() as fake:
        killed_while_polling(fake, tmp_path, 10)
        budget = Budget()
        answers = drained(batch(fake, tmp_path, budget), calls(12))
        assert len(replies(answers.values())) == 12
        assert [len(fake.batches.files[b.input].splitlines()) for b in fake.batches.submitted] == [10, 2]
        assert budget.spent.tokens == fake.billed.input_tokens + fake.billed.output_tokens


def test_batch_whose_submission_was_not_noted_is_found_and_not_paid_again(tmp_path: Path):
    with FakeEndpoint() as fake:
        killed_while_polling(fake, tmp_path, 5)
        (path,) = tmp_path.glob("*.json")
        record = json.loads(path.read_text())
        path.write_text(json.dumps(record | {"batch_id": None}))
        assert len(replies(drained(batch(fake, tmp_path), calls(5)).values())) == 5
        assert len(fake.batches.submitted) == 1


def test_batch_that_was_never_uploaded_is_submitted(tmp_path: Path):
    with FakeEndpoint() as fake:
        killed_while_polling(fake, tmp_path, 5)
        (path,) = tmp_path.glob("*.json")
        path.write_text(json.dumps(json.loads(path.read_text()) | {"batch_id": None, "file_id": None}))
        assert len(replies(drained(batch(fake, tmp_path), calls(5)).values())) == 5
        assert len(fake.batches.submitted) == 2


def test_batch_that_was_taken_in_part_gives_the_rest_without_paying_again(tmp_path: Path):
    with FakeEndpoint() as fake:
        sending = batch(fake, tmp_path).send(calls(6))
        next(sending)
        sending.close()  # the caller died before it had stored everything
        answers = drained(batch(fake, tmp_path), calls(6)[3:])
        assert len(replies(answers.values())) == 3
        assert len(fake.batches.submitted) == 1


def test_batch_of_a_changed_question_is_not_answered_by_the_old_reply(tmp_path: Path):
    with FakeEndpoint() as fake:
        killed_while_polling(fake, tmp_path, 1)
        drained(batch(fake, tmp_path), [call(0, "asked in other words")])
        assert len(fake.batches.submitted) == 2


def test_batch_of_one_endpoint_is_not_looked_for_at_another_and_is_found_when_its_own_is_back(tmp_path: Path):
    with FakeEndpoint() as first:
        killed_while_polling(first, tmp_path, 3)
        with FakeEndpoint() as second:
            assert len(replies(drained(batch(second, tmp_path), calls(3)).values())) == 3
        assert len(replies(drained(batch(first, tmp_path), calls(3)).values())) == 3
        assert (len(first.batches.submitted), len(second.batches.submitted)) == (1, 1)


def test_batch_that_expired_fails_what_was_not_made_and_charges_nothing_for_it(tmp_path: Path):
    budget = Budget()
    with FakeEndpoint(Script(batch_fate="expired")) as fake:
        answers = drained(batch(fake, tmp_path, budget), calls(10))
        assert budget.spent.tokens == fake.billed.input_tokens + fake.billed.output_tokens
    assert len(replies(answers.values())) == 5
    assert [(f.kind, f.spent) for f in failures(answers.values())] == [(ScoreFailureKind.TIMEOUT, None)] * 5


def test_batch_that_failed_fails_its_calls_with_the_reason(tmp_path: Path):
    with FakeEndpoint(Script(batch_fate="failed")) as fake:
        answers = drained(batch(fake, tmp_path), calls(3))
    assert {f.detail for f in failures(answers.values())} == {"the batch failed: Line 1 is not valid JSON."}
    assert len(failures(answers.values())) == 3


def test_batch_with_faults_inside_ends_every_call(tmp_path: Path):
    rates = {Fault.SERVER_ERROR: 0.2, Fault.INVALID_JSON: 0.1, Fault.NO_USAGE: 0.2, Fault.REFUSAL: 0.1}
    budget = Budget()
    with FakeEndpoint(Script(faults=rates)) as fake:
        answers = drained(batch(fake, tmp_path, budget), calls(60))
        assert fake.billed.input_tokens + fake.billed.output_tokens <= budget.spent.tokens
    kinds = {failure.kind for failure in failures(answers.values())}
    assert kinds == {ScoreFailureKind.CONNECTION, ScoreFailureKind.UNPARSABLE}
    assert len(answers) == 60


def test_batches_under_a_budget_follow_one_another_until_it_is_used(tmp_path: Path):
    budget = Budget(tokens=3_000)
    with FakeEndpoint() as fake:
        answers = drained(batch(fake, tmp_path, budget), calls(100))
        billed = fake.billed.input_tokens + fake.billed.output_tokens
        assert len(fake.batches.submitted) > 1
    assert billed == budget.spent.tokens <= 3_000
    assert billed >= 3_000 - 450  # no call reserves more than 450
    assert {f.kind for f in failures(answers.values())} == {ScoreFailureKind.OVER_BUDGET}
    assert len(answers) == 100


def test_batch_mistakes_are_one_line_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with FakeEndpoint(Script(key="sk-right-key")) as fake, pytest.raises(EndpointError, match="refuses calls without"):
        drained(batch(fake, tmp_path / "a"), calls(2))
    with FakeEndpoint(Script(model="other")) as fake, pytest.raises(EndpointError, match="is not there"):
        drained(batch(fake, tmp_path / "b"), calls(2))
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with FakeEndpoint() as fake, pytest.raises(RecipeError, match="JUDGE_KEY, which is not set"):
        batch(fake, tmp_path, api_key_env="JUDGE_KEY")
    (tmp_path / "torn.json").write_text("{")
    with FakeEndpoint() as fake, pytest.raises(DamageError, match=r"torn\.json is no record of a batch"):
        drained(batch(fake, tmp_path), calls(2))


def test_batch_that_died_with_its_answer_lost_is_submitted_once(tmp_path: Path):
    with FakeEndpoint() as fake:
        transport = batch(fake, tmp_path)
        create, lost = transport._client._client.batches.create, []

        def lossy(**settings: str) -> object:
            created = create(**settings)  # pyright: ignore[reportArgumentType]
            if not lost:
                import openai
                from httpx2 import ReadError, Request

                lost.append(created)
                raise openai.APIConnectionError(request=Request("POST", fake.url)) from ReadError("gone")
            return created

        transport._client._client.batches.create = lossy
        assert len(replies(drained(transport, calls(4)).values())) == 4
        assert len(fake.batches.submitted) == 1


def test_batch_failures_are_failures_of_calls(tmp_path: Path):
    with FakeEndpoint(Script(context_tokens=50)) as fake:
        answers = drained(batch(fake, tmp_path), calls(2))
    assert all(isinstance(answer, CallFailure) for answer in answers.values())
    assert {failure.kind for failure in failures(answers.values())} == {ScoreFailureKind.TOO_LONG}
