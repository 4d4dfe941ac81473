from pathlib import Path

import pytest

from prefkit.scoring.config import FakeScorer as FakeScorerConfig
from prefkit.scoring.fake import FakeScorer
from prefkit.scoring.protocol import Score, ScoreFailureKind
from tests.scoring.builders import outcome, outcomes, requests, rows

MANY = requests(*[("text", None)] * 2000)


def test_fake_scores_belong_to_the_request_not_to_the_call() -> None:
    backwards = outcomes(FakeScorer(batch_size=7), MANY[::-1])
    assert backwards == outcomes(FakeScorer(), MANY)


def test_fake_scores_spread_over_the_unit_interval() -> None:
    scores = [row.score for row in rows(FakeScorer().score(MANY)) if isinstance(row, Score)]
    assert all(0 <= score < 1 for score in scores)
    assert sum(scores) / len(scores) == pytest.approx(0.5, abs=0.03)
    assert len(set(scores)) == len(MANY)


def test_fake_scores_differ_between_seeds() -> None:
    assert outcomes(FakeScorer(seed=1), MANY) != outcomes(FakeScorer(seed=2), MANY)


def test_fake_failures_take_their_shares_and_leave_other_scores_as_they_are() -> None:
    shares = {ScoreFailureKind.TIMEOUT: 0.1, ScoreFailureKind.REFUSED: 0.2}
    failing, whole = outcomes(FakeScorer(failures=shares), MANY), outcomes(FakeScorer(), MANY)
    for kind, share in shares.items():
        assert failing.count(kind.value) / len(MANY) == pytest.approx(share, abs=0.03)
    assert all(mine == theirs for mine, theirs in zip(failing, whole, strict=True) if isinstance(mine, float))


def test_fake_value_replaces_the_score() -> None:
    assert outcome(FakeScorer(value=lambda request: len(request.completion)), "four", None) == 4.0


def test_fake_remembers_what_it_was_asked() -> None:
    scorer = FakeScorer(batch_size=3)
    list(scorer.score(MANY[:10]))
    list(scorer.score(MANY[20:25]))
    assert scorer.requests == MANY[:10] + MANY[20:25]


def test_fake_opens_from_a_recipe_block() -> None:
    block = {"kind": "fake", "seed": 3, "failures": {"undecided": 1.0}}
    assert set(outcomes(FakeScorer.open(FakeScorerConfig.model_validate(block), Path()), MANY)) == {"undecided"}
