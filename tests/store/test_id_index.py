"""An index of ids against a dictionary."""

from hashlib import blake2b

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from prefkit.identity import Words, id_words
from prefkit.store.id_index import IdIndex


def words(ids: list[bytes]) -> Words:
    """Ids as the index takes them."""
    return id_words(pa.array(ids, pa.binary(16)))


def hashes(numbers: range) -> list[bytes]:
    """Ids as they are in the fact tables."""
    return [blake2b(number.to_bytes(8, "big"), digest_size=16).digest() for number in numbers]


IDS = st.one_of(
    st.binary(min_size=16, max_size=16),
    st.integers(0, 30).map(lambda n: n.to_bytes(16, "big")),
    st.integers(0, 30).map(lambda n: n.to_bytes(16, "little")),
)


@given(known=st.lists(IDS, unique=True, max_size=40), asked=st.lists(IDS, max_size=40))
def test_places_of_any_ids_are_those_of_a_dictionary(known: list[bytes], asked: list[bytes]) -> None:
    asked = asked + known[::2]
    expected = {id_: place for place, id_ in enumerate(known)}
    assert IdIndex(words(known)).places(words(asked)).tolist() == [expected.get(id_, -1) for id_ in asked]


def test_places_of_many_ids_finds_each_and_nothing_else() -> None:
    known, strangers = hashes(range(20_000)), hashes(range(20_000, 60_000))
    index = IdIndex(words(known))
    order = np.random.default_rng(0).permutation(len(known))
    assert np.array_equal(index.places(words(known)[order]), order)
    assert (index.places(words(strangers)) == -1).all()
