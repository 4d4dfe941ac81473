"""A sequence classifier in vLLM's pooling runner against the same one in transformers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from prefkit.engines.vllm.reward_model import VllmRewardModel
from prefkit.errors import SourceError
from prefkit.scoring.config import RewardModelScorer, VllmRewardModelScorer
from prefkit.scoring.protocol import Score, ScoreFailure, ScoreFailureKind, Scorer, ScoreRequest
from prefkit.scoring.registry import open_scorer
from tests_engines.models import CONTEXT, classifier, user, written


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(classifier(), tmp_path_factory.mktemp("reward"))


@pytest.fixture(scope="module")
def in_vllm(folder: Path) -> Iterator[VllmRewardModel]:
    scorer = open_scorer(VllmRewardModelScorer(kind="vllm_reward_model", model=str(folder)), folder)
    assert isinstance(scorer, VllmRewardModel)
    yield scorer
    scorer.close()


def asked(number: int, completion: str | None = None) -> ScoreRequest:
    text = f"The answer is {number * 7 % 100}." * (1 + number % 6) if completion is None else completion
    return ScoreRequest(number.to_bytes(16, "little"), "reward", 0, user(f"What is {number} + 1?"), text, {})


def scored(scorer: Scorer, requests: list[ScoreRequest]) -> dict[bytes, Score | ScoreFailure]:
    results = [result for batch in scorer.score(requests) for result in batch]
    assert len(results) == len(requests)
    return {result.completion_id: result for result in results}


def test_scores_equal_the_raw_logits_of_transformers(in_vllm: VllmRewardModel, folder: Path):
    requests = [asked(i) for i in range(64)]
    reference = open_scorer(RewardModelScorer(kind="reward_model", model=str(folder), device="cpu"), folder)
    ours, theirs = scored(in_vllm, requests), scored(reference, requests)
    values = {id: s.score for id, s in theirs.items() if isinstance(s, Score)}
    assert len(values) == 64
    assert min(values.values()) < 0 < max(values.values())
    assert {id: s.score for id, s in ours.items() if isinstance(s, Score)} == pytest.approx(values, abs=1e-5)


def test_text_that_is_too_long_fails_and_its_siblings_do_not(in_vllm: VllmRewardModel):
    results = scored(in_vllm, [asked(0), asked(1, "7" * (CONTEXT + 1)), asked(2)])
    failed = {id: r.kind for id, r in results.items() if isinstance(r, ScoreFailure)}
    assert failed == {asked(1).completion_id: ScoreFailureKind.TOO_LONG}


def test_language_model_is_refused_as_a_reward_model(tied: Path):
    with pytest.raises(SourceError, match=r"is a Qwen3ForCausalLM .* expected a sequence classifier with one output"):
        open_scorer(VllmRewardModelScorer(kind="vllm_reward_model", model=str(tied)), tied)
