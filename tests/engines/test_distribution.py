"""What is sampled from, by hand: probabilities .5, .3, .15 and .05."""

import pytest

torch = pytest.importorskip("torch")

from prefkit.engines.distribution import Distribution  # noqa: E402

LOGITS = torch.tensor([[0.15, 0.5, 0.05, 0.3]]).log()


def probabilities(temperature: float = 1.0, top_p: float = 1.0, top_k: int | None = None) -> list[float]:
    return Distribution(temperature, top_p, top_k).logprobs(LOGITS).exp()[0].tolist()


def test_temperature_one_without_truncation_is_the_softmax():
    assert probabilities() == pytest.approx([0.15, 0.5, 0.05, 0.3])


def test_temperature_half_squares_the_probabilities():
    # .0225, .25, .0025 and .09 add up to .365.
    assert probabilities(temperature=0.5) == pytest.approx([0.0225 / 0.365, 0.25 / 0.365, 0.0025 / 0.365, 0.09 / 0.365])


def test_top_k_two_keeps_the_two_likeliest_and_renormalises():
    assert probabilities(top_k=2) == pytest.approx([0, 0.5 / 0.8, 0, 0.3 / 0.8])


def test_top_k_above_the_vocabulary_keeps_everything():
    assert probabilities(top_k=100) == pytest.approx([0.15, 0.5, 0.05, 0.3])


def test_top_p_keeps_the_token_that_reaches_it():
    # .5 falls short of .6, .5 + .3 reaches it.
    assert probabilities(top_p=0.6) == pytest.approx([0, 0.5 / 0.8, 0, 0.3 / 0.8])


def test_top_p_below_the_likeliest_token_keeps_just_that():
    assert probabilities(top_p=0.1) == pytest.approx([0, 1, 0, 0])


def test_top_p_counts_what_top_k_left():
    # After top-k 2 the likeliest has .625 and reaches .6 alone.
    assert probabilities(top_p=0.6, top_k=2) == pytest.approx([0, 1, 0, 0])


def test_temperature_zero_is_certain_of_the_likeliest_token():
    assert probabilities(temperature=0) == [0, 1, 0, 0]
