"""Weights on their way from a training to vLLM in this process, and engines that only pretend to have taken them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from prefkit.engines.saved_weights import SavedWeights
from prefkit.engines.vllm import worker as vllm_worker
from prefkit.engines.vllm.engine import LocalEngine
from prefkit.engines.vllm.sampler import VllmSampler
from prefkit.errors import SyncError
from prefkit.sampling.config import VllmSampler as Settings
from tests_engines.models import (
    SHARED,
    WHOLE,
    Learner,
    chat,
    language_model,
    logprobs_of,
    moved,
    request,
    samples,
    tokens,
)

SYNCS = 20


@dataclass(frozen=True)
class Sent(Learner):
    """A learner that sends other tensors than its model's."""

    other: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        yield from self.other.items()


@pytest.fixture(params=["tied", "untied"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def model(kind: str) -> PreTrainedModel:
    return language_model(tie_word_embeddings=kind == "tied")


@pytest.fixture(scope="module")
def engines(tied: Path, untied: Path) -> Iterator[dict[str, LocalEngine]]:
    settings = {"dtype": "float32", "logprobs_mode": "processed_logprobs"}
    engines = {"tied": LocalEngine.open(tied, settings), "untied": LocalEngine.open(untied, settings)}
    yield engines
    for engine in engines.values():
        engine.close()


@pytest.fixture
def sampler(
    engines: dict[str, LocalEngine], kind: str, tied: Path, untied: Path, model: PreTrainedModel
) -> VllmSampler:
    """Holds the model's weights, as version 0."""
    config = Settings.model_validate({"backend": "vllm", "dtype": "float32", "max_new_tokens": 32})
    sampler = VllmSampler(config, engines[kind], chat(), tied if kind == "tied" else untied, "hf:tiny")
    sampler.sync(Learner(model), 0)
    return sampler


def test_twenty_syncs_in_a_row_are_exact_over_a_shared_prompt(sampler: VllmSampler, model: PreTrainedModel):
    question = "7" * SHARED
    differences: list[float] = []
    for version in range(1, SYNCS + 1):
        moved(model, version)
        differences.append(sampler.sync(Learner(model), version))
        assert sampler.policy_version == version
        # Beside the probe: draws of prompts whose beginning every earlier version has read as well.
        for asked in [request(i, f"{question} + {i}") for i in range(2)]:
            (sample,) = samples(sampler, [asked]).values()
            prompt_ids, token_ids = chat().prompt_ids(asked.prompt), list(sample.token_ids or ())
            assert len(prompt_ids) > SHARED
            assert sample.behavior_logprobs == pytest.approx(logprobs_of(model, prompt_ids, token_ids, WHOLE), abs=1e-4)
    assert max(differences) <= 1e-4
    print(f"\nlargest difference over {SYNCS} syncs: {max(differences):.1e}")


def test_sync_from_a_folder_gives_the_folders_draws(sampler: VllmSampler, model: PreTrainedModel, tmp_path: Path):
    moved(model, 1)
    Learner(model).save(tmp_path)
    sampler.sync(SavedWeights(tmp_path), 1)
    (sample,) = samples(sampler, [request(0)]).values()
    expected = logprobs_of(model, chat().prompt_ids(request(0).prompt), list(sample.token_ids or ()), WHOLE)
    assert sample.behavior_logprobs == pytest.approx(expected, abs=1e-4)


def test_stale_prefix_cache_is_refused_and_the_next_sync_accepted(
    sampler: VllmSampler, model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
):
    moved(model, 1)
    with monkeypatch.context() as sabotage:
        sabotage.setattr(LocalEngine, "reset_cache", lambda self: None)
        refused(sampler, model)
    assert sampler.sync(Learner(model), 1) <= 1e-4


@pytest.mark.parametrize("kind", ["tied"], indirect=True)
def test_stale_packed_head_is_refused_and_the_next_sync_accepted(
    sampler: VllmSampler, model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
):
    moved(model, 1)
    with monkeypatch.context() as sabotage:
        sabotage.setattr(vllm_worker, "repack_heads", lambda model: None)
        refused(sampler, model)
    assert sampler.sync(Learner(model), 1) <= 1e-4


def test_weights_that_did_not_arrive_are_refused(
    sampler: VllmSampler, model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
):
    moved(model, 1)
    with monkeypatch.context() as sabotage:
        sabotage.setattr(LocalEngine, "load", lambda self, files, label: None)
        refused(sampler, model)
    assert sampler.sync(Learner(model), 1) <= 1e-4


def refused(sampler: VllmSampler, model: PreTrainedModel) -> None:
    """What every sabotage comes to."""
    with pytest.raises(SyncError, match=r"log-probs differ by .* expected at most 0\.0001 in float32"):
        sampler.sync(Learner(model), 1)
    with pytest.raises(SyncError, match="unknown weights"):
        next(iter(sampler.sample([request(0)])))


def test_weights_of_another_shape_are_refused_and_change_nothing(sampler: VllmSampler, model: PreTrainedModel):
    before = tokens(samples(sampler, [request(i) for i in range(8)]))
    other = dict(model.state_dict())
    other["model.norm.weight"] = torch.zeros(3)
    lacking = {name: tensor for name, tensor in model.state_dict().items() if name != "model.norm.weight"}
    for weights, got in ((other, r"got shape \[3\], expected shape \[64\]"), (lacking, r"got none, expected shape")):
        with pytest.raises(SyncError, match=rf"weight 'model\.norm\.weight': {got}"):
            sampler.sync(Sent(model, other=weights), 1)
    assert sampler.policy_version == 0
    assert tokens(samples(sampler, [request(i) for i in range(8)])) == before


def test_sync_while_draws_are_under_way_is_refused(sampler: VllmSampler, model: PreTrainedModel):
    drawing = VllmSampler(
        Settings.model_validate({"backend": "vllm", "dtype": "float32", "max_new_tokens": 32, "batch_size": 1}),
        sampler._engine, chat(), sampler._folder, "hf:tiny",
    )  # fmt: skip
    drawing.sync(Learner(model), 0)
    under_way = drawing.sample([request(i) for i in range(16)])
    next(under_way)
    with pytest.raises(SyncError, match="still drawing"):
        sampler.sync(Learner(model), 1)
    under_way.close()
    assert sampler.sync(Learner(model), 1) <= 1e-4


@pytest.mark.parametrize("kind", ["tied"], indirect=True)
def test_probe_of_a_short_prompt_is_refused_and_changes_nothing(sampler: VllmSampler, model: PreTrainedModel):
    with pytest.raises(SyncError, match="199 prompt tokens"):
        sampler.sync(Learner(model, prompt_tokens=199), 1)
    assert sampler.policy_version == 0
