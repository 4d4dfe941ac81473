import json
from statistics import NormalDist

import pytest

from prefkit.testing import Asked, SimulatedJudge
from prefkit.testing.faults import Fault, struck, uniform

VERDICT = {"type": "object", "properties": {"verdict": {"type": "string", "enum": ["A", "tie", "B"]}}}


def asked(text: str, schema: dict[str, object] | None = None) -> Asked:
    return Asked([{"role": "user", "content": text}], schema, None, lambda purpose: uniform(text.encode(), purpose))


def firsts_and_seconds(judge: SimulatedJudge, pairs: int, better: float, worse: float) -> tuple[float, float]:
    """Shares of the calls, over both orders of every pair, that prefer what was shown first and second."""
    verdicts = [
        judge.opinion(asked(f"pair {pair}: quality={one} or quality={two}"))
        for pair in range(pairs)
        for one, two in ((better, worse), (worse, better))
    ]
    return verdicts.count(1.0) / len(verdicts), verdicts.count(0.0) / len(verdicts)


@pytest.mark.parametrize("bias", [0.0, 0.1, 0.3, 0.5, -0.3])
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_judge_prefers_the_first_by_its_bias(bias: float, noise: float):
    first, second = firsts_and_seconds(SimulatedJudge(bias, noise), pairs=4_000, better=0.8, worse=0.6)
    # 8,000 calls: the standard error of the difference is at most 1 / sqrt(8000) = 0.0112.
    assert first - second == pytest.approx(bias, abs=4 * 0.0112)


def test_judge_without_bias_errs_as_its_noise_says():
    judge = SimulatedJudge(noise=0.2)
    wrong = sum(judge.opinion(asked(f"{i}: quality=0.8 quality=0.6")) == 0.0 for i in range(4_000)) / 4_000
    # P(N(0.2, 0.2 * sqrt 2) < 0) = 0.2398; standard error 0.0068.
    assert wrong == pytest.approx(NormalDist(0.2, 0.2 * 2**0.5).cdf(0), abs=4 * 0.0068)


def test_judge_of_equal_texts_sees_a_tie():
    assert json.loads(SimulatedJudge()(asked("quality=0.5 quality=0.5", VERDICT))) == {"verdict": "tie"}


@pytest.mark.parametrize(("quality", "rating"), [(0.0, 1), (0.5, 3), (0.7, 4), (1.0, 5)])
def test_judge_rates_on_the_scale_of_the_schema(quality: float, rating: int):
    part = {
        "type": "object",
        "properties": {"why": {"type": "string"}, "score": {"type": "integer", "enum": [1, 2, 3, 4, 5]}},
    }
    reply = json.loads(SimulatedJudge()(asked(f"quality={quality}", {"type": "object", "properties": {"help": part}})))
    assert reply["help"]["score"] == rating
    assert reply["help"]["why"]
    unbounded = {"type": "object", "properties": {"score": {"type": "number", "minimum": 0, "maximum": 10}}}
    assert json.loads(SimulatedJudge()(asked(f"quality={quality}", unbounded)))["score"] == 10 * quality


def test_judge_without_a_schema_writes_prose():
    assert SimulatedJudge()(asked("quality=0.75")).endswith("Rating: 4")
    assert SimulatedJudge()(asked("quality=0.75 quality=0.7")).endswith("[[A]]")
    assert "```json" in SimulatedJudge(chatty=True)(asked("quality=0.75 quality=0.7", VERDICT))


def test_faults_strike_at_their_rates_and_not_every_attempt_of_a_content():
    rates = {Fault.HANG: 0.1, Fault.HTML: 0.2}
    drawn = [struck(rates, str(i).encode(), attempt, seed=0) for i in range(2_000) for attempt in range(2)]
    # 4,000 draws: standard errors 0.0047 and 0.0063.
    assert drawn.count(Fault.HANG) / 4_000 == pytest.approx(0.1, abs=4 * 0.0047)
    assert drawn.count(Fault.HTML) / 4_000 == pytest.approx(0.2, abs=4 * 0.0063)
    both = sum(a is not None and b is not None for a, b in zip(drawn[::2], drawn[1::2], strict=True)) / 2_000
    assert both == pytest.approx(0.09, abs=4 * 0.0064)  # attempts are independent: 0.3 * 0.3
    with pytest.raises(ValueError, match=r"add up to 1\.2"):
        struck({Fault.HANG: 1.2}, b"", 0, 0)
