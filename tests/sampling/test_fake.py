"""The fake sampler draws as a real one would: by id, with failures as rows."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from random import Random

import pytest

from prefkit.sampling.config import FakeSampler as Settings
from prefkit.sampling.fake import FakeSampler
from prefkit.sampling.protocol import FinishReason, Sample, SampleFailure, SampleFailureKind, SampleRequest
from prefkit.sampling.registry import open_synced
from prefkit.sampling.weights import Logprobed


@dataclass(frozen=True)
class FakeWeights:
    """Weights of which only the digest is looked at."""

    content: bytes

    def digest(self) -> str:
        return blake2b(self.content, digest_size=16).hexdigest()

    def tensors(self) -> Iterator[tuple[str, object]]:
        yield "content", self.content

    def save(self, folder: Path) -> None:
        (folder / "content").write_bytes(self.content)

    def probe(self) -> Logprobed:
        return Logprobed([2], [3], [-1.0])


def request(number: int, question: str = "What is 17 + 25?") -> SampleRequest:
    return SampleRequest(number.to_bytes(16, "little"), [{"role": "user", "content": question}])


def outcomes(sampler: FakeSampler, requests: list[SampleRequest]) -> dict[bytes, Sample | SampleFailure]:
    drawn = [outcome for batch in sampler.sample(requests) for outcome in batch]
    assert len(drawn) == len(requests)
    return {o.completion_id: o for o in drawn}


def fake(**settings: object) -> FakeSampler:
    return FakeSampler(Settings.model_validate({"backend": "fake", **settings}))


@pytest.mark.parametrize(
    ("question", "answer"),
    [("What is 17 + 25?", "42"), ("Calculate 3 - 8.", "-5"), ("What is 12 * 11?", "132"), ("7 × 6 = ?", "42")],  # noqa: RUF001
)
def test_fake_answers_arithmetic_right_about_half_of_the_time(question: str, answer: str):
    texts = [
        s.text for s in outcomes(fake(), [request(i, question) for i in range(400)]).values() if isinstance(s, Sample)
    ]
    answers = [found[1] for t in texts if (found := re.search(r"The answer is (-?\d+)\.$", t))]
    assert len(answers) == 400
    assert 160 < answers.count(answer) < 240
    assert len(set(answers)) > 5


@pytest.mark.parametrize("question", ["", "Why?", "Mia has 3 boxes of 12 eggs. How many eggs?"])
def test_fake_answers_any_question_with_a_number(question: str):
    (sample,) = outcomes(fake(), [request(0, question)]).values()
    assert isinstance(sample, Sample)
    assert re.search(r"The answer is -?\d+\.$", sample.text)


def test_fake_draws_depend_on_id_and_seed_and_on_nothing_else():
    requests = [request(i) for i in range(50)]
    shuffled = list(requests)
    Random(0).shuffle(shuffled)
    assert outcomes(fake(batch_size=7), shuffled) == outcomes(fake(), requests)
    other = outcomes(fake(seed=1), requests)
    assert sum(other[r.completion_id] != outcomes(fake(), requests)[r.completion_id] for r in requests) == 50


def test_fake_tokens_have_a_logprob_each_and_end_with_the_limit():
    short, long = (outcomes(fake(max_new_tokens=n), [request(0)])[request(0).completion_id] for n in (3, 100))
    assert isinstance(short, Sample)
    assert isinstance(long, Sample)
    assert (short.finish_reason, long.finish_reason) == (FinishReason.LENGTH, FinishReason.STOP)
    assert long.text.startswith(short.text)
    assert len(short.token_ids or ()) == 3
    for sample in (short, long):
        assert len(sample.token_ids or ()) == len(sample.sampling_logprobs or ()) == len(sample.behavior_logprobs or ())
        assert all(logprob <= 0 for logprob in sample.behavior_logprobs or ())


def test_fake_failures_take_their_share_and_leave_the_other_draws_as_they_were():
    requests = [request(i) for i in range(1000)]
    shares = {SampleFailureKind.TIMEOUT: 0.2, SampleFailureKind.REFUSED: 0.1}
    config = Settings(backend="fake")
    failing = FakeSampler(config, failures=shares)
    drawn, healthy = outcomes(failing, requests), outcomes(FakeSampler(config), requests)
    kinds = [o.kind for o in drawn.values() if isinstance(o, SampleFailure)]
    assert 150 < kinds.count(SampleFailureKind.TIMEOUT) < 250
    assert 60 < kinds.count(SampleFailureKind.REFUSED) < 140
    assert all(o == healthy[key] for key, o in drawn.items() if isinstance(o, Sample))
    # A server that recovers is still the same policy, so its draws fill the gaps.
    assert failing.policy_id == FakeSampler(config).policy_id


def test_fake_with_other_answers_is_another_policy():
    parrot = FakeSampler(
        Settings(backend="fake"), respond=lambda prompt, draw: prompt[0]["content"], policy_id="fake:parrot"
    )
    (sample,) = outcomes(parrot, [request(0, "Say this.")]).values()
    assert isinstance(sample, Sample)
    assert sample.text == "Say this."
    assert parrot.policy_id != fake().policy_id


def test_fake_draws_belong_to_the_weights_it_was_last_sent():
    requests = [request(i) for i in range(100)]
    first, other, start = fake(), fake(), outcomes(fake(), requests)
    first.sync(FakeWeights(b"step 5"), 5)
    after = outcomes(first, requests)
    assert (first.policy_version, other.policy_version) == (5, 0)
    assert sum(after[key] != start[key] for key in start) == len(requests)

    first.sync(FakeWeights(b"step 6"), 6)
    assert sum(o != after[key] for key, o in outcomes(first, requests).items()) == len(requests)
    other.sync(FakeWeights(b"step 5"), 5)
    assert outcomes(other, requests) == after


def test_fake_follows_a_training_under_the_runs_id():
    opened = open_synced(Settings(backend="fake"), None, "run/2")
    assert (opened.policy_id, opened.policy_version) == ("run/2", 0)
    assert opened.sync(FakeWeights(b"step 3"), 3) == 0.0
    assert (opened.policy_id, opened.policy_version) == ("run/2", 3)
