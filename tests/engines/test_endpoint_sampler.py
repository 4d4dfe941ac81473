"""Sampling texts from an endpoint that fails as endpoints do."""

import json

import pytest

pytest.importorskip("openai")

from prefkit.engines.endpoint_sampler import EndpointSampler
from prefkit.errors import EndpointError
from prefkit.sampling.config import EndpointSampler as Settings
from prefkit.sampling.config import PolicyConfig
from prefkit.sampling.protocol import FinishReason, Sample, SampleFailure, SampleFailureKind, SampleRequest
from prefkit.sampling.registry import open_sampler
from prefkit.testing import FakeEndpoint, Fault, Script

POLICY = PolicyConfig(model="judge", revision="r1")
REQUESTS = [SampleRequest(i.to_bytes(16, "little"), [{"role": "user", "content": f"Question {i}"}]) for i in range(60)]


def opened(endpoint: FakeEndpoint, **given: object) -> EndpointSampler:
    base = {"backend": "endpoint", "endpoint": endpoint.url, "max_new_tokens": 200, "batch_size": 8}
    sampler = open_sampler(Settings.model_validate(base | given), POLICY)
    assert isinstance(sampler, EndpointSampler)
    return sampler


def drawn(sampler: EndpointSampler) -> dict[bytes, Sample | SampleFailure]:
    outcomes = [outcome for batch in sampler.sample(REQUESTS) for outcome in batch]
    assert len(outcomes) == len(REQUESTS)
    return {outcome.completion_id: outcome for outcome in outcomes}


def test_draws_carry_text_and_neither_tokens_nor_logprobs():
    with FakeEndpoint(Script(judge=lambda asked: asked.messages[-1]["content"].upper())) as endpoint:
        sampler = opened(endpoint)
        outcomes = drawn(sampler)
    assert sampler.policy_id == "endpoint:judge@r1"
    assert not sampler.deterministic
    for request in REQUESTS:
        text = request.prompt[0]["content"].upper()
        assert outcomes[request.completion_id] == Sample(
            request.completion_id, text, FinishReason.STOP, None, None, None
        )


def test_requests_say_what_the_recipe_says_and_have_seeds_of_their_own():
    with FakeEndpoint() as endpoint:
        drawn(opened(endpoint, system="Be brief.", temperature=0.7, top_p=0.9, stop=["\n"], seed=3))
        bodies = [json.loads(logged.request.body) for logged in endpoint.requests]
    assert {body["temperature"] for body in bodies} == {0.7}
    assert {(body["top_p"], *body["stop"], body["max_tokens"]) for body in bodies} == {(0.9, "\n", 200)}
    assert all("top_k" not in body for body in bodies)
    assert {body["messages"][0]["content"] for body in bodies} == {"Be brief."}
    assert len({body["seed"] for body in bodies}) == len(REQUESTS)


def test_faults_become_outcomes_of_their_kind_and_every_request_has_one():
    script = Script(faults={Fault.REFUSAL: 0.2, Fault.CUT_OFF: 0.2, Fault.RATE_LIMIT: 0.2})
    with FakeEndpoint(script) as endpoint:
        outcomes = drawn(opened(endpoint)).values()
    kinds = {outcome.kind for outcome in outcomes if isinstance(outcome, SampleFailure)}
    reasons = {outcome.finish_reason for outcome in outcomes if isinstance(outcome, Sample)}
    assert kinds == {SampleFailureKind.REFUSED}
    assert reasons == {FinishReason.STOP, FinishReason.LENGTH}


def test_prompt_that_does_not_fit_fails_for_good():
    with FakeEndpoint(Script(context_tokens=100)) as endpoint:
        outcomes = drawn(opened(endpoint))
    assert {o.kind for o in outcomes.values() if isinstance(o, SampleFailure)} == {SampleFailureKind.PROMPT_TOO_LONG}


def test_model_that_is_not_served_is_one_line_about_the_policy():
    refused = pytest.raises(EndpointError, match=r"policy 'judge' at .* is not there")
    with FakeEndpoint(Script(model="another")) as endpoint, refused:
        drawn(opened(endpoint))
