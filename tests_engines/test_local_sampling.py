"""vLLM in this process against transformers, on the same weights."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from prefkit.engines.distribution import Distribution
from prefkit.engines.transformers_sampler import TransformersSampler
from prefkit.engines.vllm.engine import LocalEngine
from prefkit.engines.vllm.sampler import VllmSampler
from prefkit.errors import RecipeError
from prefkit.sampling.config import PolicyConfig
from prefkit.sampling.config import TransformersSampler as TransformersSettings
from prefkit.sampling.config import VllmSampler as Settings
from prefkit.sampling.protocol import FinishReason, SampleFailure, SampleFailureKind
from prefkit.sampling.registry import open_sampler
from tests_engines.models import (
    CONTEXT,
    END_ID,
    WHOLE,
    chat,
    language_model,
    logprobs_of,
    outcomes,
    request,
    samples,
    tokens,
    written,
)

NEW_TOKENS = 48
REQUESTS = [request(i) for i in range(48)]


def settings(**given: object) -> Settings:
    base = {"backend": "vllm", "dtype": "float32", "max_new_tokens": NEW_TOKENS}
    return Settings.model_validate(base | given)


def reference(folder: Path, **given: object) -> TransformersSampler:
    base = {"backend": "transformers", "device": "cpu", "max_new_tokens": NEW_TOKENS}
    config = TransformersSettings.model_validate(base | given)
    return TransformersSampler.open(config, PolicyConfig(model=str(folder)), "hf:reference")


@pytest.fixture(scope="module")
def opened(tied: Path) -> Iterator[VllmSampler]:
    sampler = open_sampler(settings(), PolicyConfig(model=str(tied)))
    assert isinstance(sampler, VllmSampler)
    yield sampler
    sampler.close()


@pytest.fixture(scope="module")
def engine(opened: VllmSampler) -> LocalEngine:
    """One engine for samplers of all settings."""
    held = opened._engine
    assert isinstance(held, LocalEngine)
    return held


@pytest.fixture(scope="module")
def untied_engine(untied: Path) -> Iterator[LocalEngine]:
    engine = LocalEngine.open(untied, {"dtype": "float32", "logprobs_mode": "processed_logprobs"})
    yield engine
    engine.close()


def sampler(engine: LocalEngine, folder: Path, **given: object) -> VllmSampler:
    return VllmSampler(settings(**given), engine, chat(), folder, "hf:tiny")


def test_opening_leaves_the_process_generators_and_threads_alone(untied: Path):
    before, numbers, threads = torch.get_rng_state(), random.getstate(), torch.set_num_threads
    engine = LocalEngine.open(untied, {"dtype": "float32"})
    engine.close()
    assert torch.equal(torch.get_rng_state(), before)
    assert random.getstate() == numbers
    assert torch.set_num_threads is threads


def test_greedy_tokens_and_texts_equal_those_of_transformers_tied(engine: LocalEngine, tied: Path):
    ours, theirs = (
        samples(sampler(engine, tied, temperature=0), REQUESTS),
        samples(reference(tied, temperature=0), REQUESTS),
    )
    assert {i: (s.token_ids, s.text, s.finish_reason) for i, s in ours.items()} == {
        i: (s.token_ids, s.text, s.finish_reason) for i, s in theirs.items()
    }
    assert all(set(s.sampling_logprobs or ()) == {0.0} for s in ours.values())


def test_greedy_tokens_equal_those_of_transformers_untied(untied_engine: LocalEngine, untied: Path):
    ours = samples(sampler(untied_engine, untied, temperature=0), REQUESTS)
    assert tokens(ours) == tokens(samples(reference(untied, temperature=0), REQUESTS))


@pytest.mark.parametrize(
    "given", [{}, {"temperature": 0}, {"temperature": 0.7}, {"temperature": 1.3, "top_p": 0.9, "top_k": 50}], ids=str
)
def test_both_logprobs_are_within_1e_4_of_a_forward_pass(engine: LocalEngine, tied: Path, given: dict[str, float]):
    config = settings(**given)
    distribution = Distribution(config.temperature, config.top_p, config.top_k)
    model, largest = language_model(tie_word_embeddings=True), 0.0
    drawn = samples(sampler(engine, tied, **given), REQUESTS)
    for asked in REQUESTS:
        found, prompt_ids = drawn[asked.completion_id], chat().prompt_ids(asked.prompt)
        for got, under in ((found.sampling_logprobs, distribution), (found.behavior_logprobs, WHOLE)):
            expected = logprobs_of(model, prompt_ids, list(found.token_ids or ()), under)
            assert got == pytest.approx(expected, abs=1e-4)
            largest = max(largest, *(abs(a - b) for a, b in zip(got or (), expected, strict=True)))
    print(f"\nlargest difference of a log-prob {given}: {largest:.1e}")


def test_tokens_are_the_same_twice_and_in_other_company(engine: LocalEngine, tied: Path):
    drawing = sampler(engine, tied, temperature=0.8)
    base = tokens(samples(drawing, REQUESTS))
    assert tokens(samples(drawing, REQUESTS)) == base
    part = [r for i, r in enumerate(REQUESTS) if i % 3]
    random.Random(0).shuffle(part)
    assert tokens(samples(drawing, part)) == {r.completion_id: base[r.completion_id] for r in part}


def test_another_seed_or_id_gives_other_tokens(engine: LocalEngine, tied: Path):
    group = [request(i, "What is 2 + 2?") for i in range(48)]
    base = tokens(samples(sampler(engine, tied), group))
    other = tokens(samples(sampler(engine, tied, seed=1), group))
    assert len({tuple(t) for t in base.values()}) > 40
    assert sum(base[i] == other[i] for i in base) < 8


def test_first_tokens_are_distributed_as_the_softmax_says(engine: LocalEngine, tied: Path):
    group = [request(i, "What is 2 + 2?") for i in range(3000)]
    firsts = [t[0] for t in tokens(samples(sampler(engine, tied, max_new_tokens=1), group)).values()]
    with torch.no_grad():
        ids = chat().prompt_ids(group[0].prompt)
        expected = language_model(tie_word_embeddings=True)(torch.tensor([ids])).logits[0, -1].double().softmax(-1)
    expected *= len(group)
    observed = torch.bincount(torch.tensor(firsts), minlength=len(expected)).double()
    common = expected >= 5
    chi_square, freedom = ((observed - expected) ** 2 / expected)[common].sum().item(), int(common.sum()) - 1
    assert freedom > 50
    # The statistic has mean `freedom` and variance 2 x `freedom`.
    assert chi_square < freedom + 4 * (2 * freedom) ** 0.5


def test_draw_ends_with_the_end_token_or_at_the_limit_and_says_which(engine: LocalEngine, tied: Path):
    drawn = samples(sampler(engine, tied), REQUESTS).values()
    reasons = [s.finish_reason for s in drawn]
    assert min(reasons.count(FinishReason.STOP), reasons.count(FinishReason.LENGTH)) > 3
    for sample in drawn:
        ids = list(sample.token_ids or ())
        assert (END_ID in ids) == (ids[-1] == END_ID) == (sample.finish_reason is FinishReason.STOP)
        assert len(ids) == NEW_TOKENS or sample.finish_reason is FinishReason.STOP
        assert len(ids) == len(sample.sampling_logprobs or ()) == len(sample.behavior_logprobs or ())
        assert sample.text == chat().text(ids)


def test_stop_string_ends_text_before_it_and_tokens_with_it(engine: LocalEngine, tied: Path):
    whole = samples(sampler(engine, tied), REQUESTS)
    stopped = samples(sampler(engine, tied, stop=["a"]), REQUESTS)
    assert sum("a" in s.text for s in whole.values()) > 10
    for id, sample in stopped.items():
        text, ids = whole[id].text, list(whole[id].token_ids or ())
        assert sample.text == text.partition("a")[0]
        assert sample.token_ids == ids[: len(sample.token_ids or ())]
        if "a" in text:
            assert sample.finish_reason is FinishReason.STOP
            assert "a" in chat().text(sample.token_ids or ())
            assert "a" not in chat().text((sample.token_ids or ())[:-1])


def test_prompt_that_leaves_no_room_fails_and_its_siblings_do_not(engine: LocalEngine, tied: Path):
    filled = CONTEXT - NEW_TOKENS - len(chat().prompt_ids(request(0, "").prompt))
    fits, too_long = request(0, "7" * filled), request(1, "7" * (filled + 1))
    drawn = outcomes(sampler(engine, tied, temperature=0.7), [fits, too_long, request(2)])
    failed = {o.completion_id: o.kind for o in drawn.values() if isinstance(o, SampleFailure)}
    assert failed == {too_long.completion_id: SampleFailureKind.PROMPT_TOO_LONG}


def test_sampling_that_is_given_up_leaves_nothing_behind(engine: LocalEngine, tied: Path):
    drawing = sampler(engine, tied, batch_size=1)
    given_up = drawing.sample(REQUESTS)
    next(given_up)
    given_up.close()
    later = [request(1000 + i) for i in range(4)]
    assert set(outcomes(drawing, later)) == {r.completion_id for r in later}


def test_batches_are_yielded_while_others_still_run(engine: LocalEngine, tied: Path):
    drawing = sampler(engine, tied, batch_size=1)
    under_way = [engine.busy for _ in drawing.sample(REQUESTS)]
    assert sum(under_way) > len(REQUESTS) // 4


def test_temperature_that_vllm_would_change_is_refused(tied: Path):
    with pytest.raises(RecipeError, match=r"sample\.temperature is 0\.001, expected 0 or at least 0\.01"):
        open_sampler(settings(temperature=0.001), PolicyConfig(model=str(tied)))


def test_throughput_against_transformers(tmp_path: Path):
    """A number to look at, not a claim."""
    model = language_model(hidden_size=256, intermediate_size=768, num_hidden_layers=4, tie_word_embeddings=True)
    folder = written(model, tmp_path)
    engine = LocalEngine.open(folder, {"dtype": "float32", "max_num_seqs": 64})
    group = [request(16 * i + n, f"What is {i} + 1?") for i in range(16) for n in range(8)]
    rates: dict[str, float] = {}
    for name, drawing in (("vllm", sampler(engine, folder)), ("transformers", reference(folder))):
        samples(drawing, group[:8])
        start = time.perf_counter()
        count = sum(map(len, tokens(samples(drawing, group)).values()))
        rates[name] = count / (time.perf_counter() - start)
    engine.close()
    print(f"\ntokens per second: {rates['vllm']:.0f} vLLM, {rates['transformers']:.0f} transformers", end=", ")
    print(f"ratio {rates['vllm'] / rates['transformers']:.2f}")
