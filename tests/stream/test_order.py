import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.stream.order import prompt_places, shuffled

SEEDS = st.integers(0, 2**64 - 1)


@given(st.integers(1, 40), SEEDS, st.integers(0, 5))
def test_every_epoch_takes_every_prompt_once(n: int, seed: int, epoch: int) -> None:
    places, epochs = prompt_places(n, seed, epoch * n, n)
    assert sorted(places) == list(range(n))
    assert set(epochs) == {epoch}


@given(st.integers(1, 20), SEEDS, st.integers(0, 50), st.lists(st.integers(0, 30), max_size=6))
def test_order_does_not_depend_on_how_it_is_cut(n: int, seed: int, cursor: int, counts: list[int]) -> None:
    whole = prompt_places(n, seed, cursor, sum(counts))
    starts = [cursor + sum(counts[:i]) for i in range(len(counts))]
    parts = [prompt_places(n, seed, start, count) for start, count in zip(starts, counts, strict=True)]
    for column in (0, 1):
        assert whole[column].tolist() == [value for part in parts for value in part[column]]


def test_order_differs_by_epoch_and_seed_and_stays_as_it_always_was() -> None:
    """Recorded runs are resumed and replayed by this order: a change here would give them other prompts."""
    orders = [prompt_places(10, seed, cursor, 10)[0].tolist() for seed, cursor in ((0, 0), (0, 10), (1, 0))]
    assert orders == GOLDEN


GOLDEN = [[0, 1, 9, 4, 2, 8, 3, 7, 6, 5], [1, 2, 8, 9, 4, 6, 5, 0, 7, 3], [7, 9, 3, 6, 8, 1, 2, 5, 4, 0]]


def test_neighbouring_seeds_differ_up_to_the_largest() -> None:
    seeds = [2**64 - 1, 2**64 - 2, 2**63, 2**63 + 1, 2**53, 2**53 + 1]
    assert len({tuple(prompt_places(20, seed, 0, 20)[0]) for seed in seeds}) == len(seeds)
    assert len({tuple(shuffled(np.arange(20), None, seed)) for seed in seeds}) == len(seeds)


def test_first_place_of_an_epoch_is_spread_evenly() -> None:
    """4,000 epochs of 8 prompts: each is first 500 times, give or take 4.5 standard deviations (20.9)."""
    firsts = [int(prompt_places(8, 3, epoch * 8, 1)[0][0]) for epoch in range(4000)]
    assert np.abs(np.bincount(firsts, minlength=8) - 500).max() < 94


def test_order_of_no_prompts_is_refused() -> None:
    with pytest.raises(ValueError, match="no prompts"):
        prompt_places(0, 0, 0, 1)


ROWS = st.lists(st.integers(0, 10**9), unique=True, max_size=60).map(lambda rows: np.array(rows, np.int64))


@given(ROWS, st.integers(1, 70), SEEDS)
def test_shuffled_row_stays_in_its_window(rows: np.ndarray, window: int, seed: int) -> None:
    found = shuffled(rows, window, seed)
    for start in range(0, len(rows), window):
        assert sorted(found[start : start + window]) == sorted(rows[start : start + window])


@given(ROWS, SEEDS)
def test_shuffled_window_of_one_keeps_the_order_and_none_is_one_window(rows: np.ndarray, seed: int) -> None:
    assert shuffled(rows, 1, seed).tolist() == rows.tolist()
    assert shuffled(rows, None, seed).tolist() == shuffled(rows, max(1, len(rows)), seed).tolist()


def test_shuffled_differs_by_seed_and_from_window_to_window() -> None:
    rows = np.arange(4000)
    first, second = shuffled(rows, 40, 0), shuffled(rows, 40, 1)
    assert first.tolist() != second.tolist()
    assert len({tuple(part - part.min()) for part in first.reshape(100, 40)}) == 100
    assert abs(np.corrcoef(np.arange(40), first.reshape(100, 40).argsort(axis=1).mean(axis=0))[0, 1]) < 0.5


def test_shuffled_refuses_a_window_of_nothing() -> None:
    with pytest.raises(ValueError, match="window is 0"):
        shuffled(np.arange(3), 0, 0)
