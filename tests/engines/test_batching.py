"""Texts cut into runs that fit a budget of tokens."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from prefkit.engines.batching import batches


@given(
    lengths=st.lists(st.integers(1, 400)).map(lambda found: sorted(found, reverse=True)),
    tokens=st.integers(1, 1000),
    rows=st.integers(1, 20),
)
def test_batches_hold_every_text_once_and_as_many_as_budget_and_limit_allow(lengths: list[int], tokens: int, rows: int):
    cut = list(batches(lengths, tokens, rows))
    assert [place for part in cut for place in range(part.start, part.stop)] == list(range(len(lengths)))
    for part in cut:
        count = part.stop - part.start
        assert 1 <= count <= rows
        assert count == 1 or count * lengths[part.start] <= tokens
    for part, _ in pairwise(cut):
        longer = part.stop - part.start + 1
        assert longer > rows or longer * lengths[part.start] > tokens


def test_batches_are_cut_where_the_longest_text_times_their_number_exceeds_the_budget():
    assert list(batches([100, 90, 80, 50, 50, 50], tokens=200, rows=9)) == [slice(0, 2), slice(2, 4), slice(4, 6)]
    assert list(batches([900, 10], tokens=200, rows=9)) == [slice(0, 1), slice(1, 2)]
