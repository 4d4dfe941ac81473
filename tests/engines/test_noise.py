"""The noise is standard Gumbel noise, and belongs to a row alone."""

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402

from prefkit.engines.noise import gumbel_noise, row_keys  # noqa: E402


def ids(count: int) -> list[bytes]:
    return [i.to_bytes(16, "little") for i in range(count)]


def test_noise_of_a_row_does_not_depend_on_the_other_rows_or_on_how_the_work_is_cut():
    # 200,000 tokens are more than one piece of work: rows are computed one by one there.
    together = gumbel_noise(row_keys(ids(5), seed=3), step=7, vocabulary=200_000)
    alone = gumbel_noise(row_keys(ids(5)[3:4], seed=3), step=7, vocabulary=200_000)
    assert torch.equal(together[3:4], alone)
    assert torch.equal(together[:, :1000], gumbel_noise(row_keys(ids(5), seed=3), step=7, vocabulary=1000))


def test_noise_of_neighbouring_ids_seeds_and_steps_is_uncorrelated():
    base = gumbel_noise(row_keys(ids(1), seed=0), 0, 100_000)[0]
    others = [
        gumbel_noise(row_keys(ids(2)[1:], seed=0), 0, 100_000)[0],
        gumbel_noise(row_keys(ids(1), seed=1), 0, 100_000)[0],
        gumbel_noise(row_keys(ids(1), seed=0), 1, 100_000)[0],
        base.roll(1),
    ]
    for other in others:
        correlation = torch.corrcoef(torch.stack([base, other]))[0, 1].item()
        assert abs(correlation) < 5 / np.sqrt(100_000)


def test_noise_has_mean_euler_gamma_and_variance_pi_squared_over_six():
    noise = gumbel_noise(row_keys(ids(100), seed=0), 0, 10_000).double()
    # Standard errors at a million values: 1.3e-3 for the mean, about 3.5e-3 for the variance.
    assert noise.mean().item() == pytest.approx(0.577216, abs=6e-3)
    assert noise.var().item() == pytest.approx(np.pi**2 / 6, abs=2e-2)


def test_noise_is_below_each_tenth_of_the_gumbel_distribution_as_often_as_it_should_be():
    noise = gumbel_noise(row_keys(ids(100), seed=5), 2, 10_000).flatten().double()
    for tenth in range(1, 10):
        quantile = -np.log(-np.log(tenth / 10))
        assert (noise < quantile).double().mean().item() == pytest.approx(tenth / 10, abs=2.5e-3)
    # The upper tail decides what is sampled: P(noise > 9) = 1 - exp(-exp(-9)), 123 of a million.
    assert (noise > 9).sum().item() == pytest.approx(123, abs=50)


def test_noise_is_finite_so_a_token_that_was_cut_off_never_wins():
    noise = gumbel_noise(row_keys(ids(1000), seed=0), 0, 4000)
    assert torch.isfinite(noise).all()
