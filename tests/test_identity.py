import math
from typing import ClassVar, Literal

import mmh3
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from prefkit.config import Config
from prefkit.hashing import hashed, row_hashes
from prefkit.identity import canonical_json, config_id, content_id, hash128, id_column, id_words, row_ids
from prefkit.records import FACT_TABLES, MESSAGES
from prefkit.sampling.config import SampleConfig
from prefkit.scoring.config import ScoreConfig

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_canonical_json_does_not_depend_on_the_order_of_keys(value: dict[str, object]) -> None:
    assert canonical_json(value) == canonical_json(dict(reversed(value.items())))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"a": [1, math.nan]}, r"value\.a\[1\] is nan"),
        ({"a": math.inf}, r"value\.a is inf"),
        ({1: "x"}, "keys must be strings"),
        ({"a": b"x"}, r"value\.a is a bytes"),
        ({"a": {1, 2}}, r"value\.a is a set"),
        ([lambda: 1], r"value\[0\] is a function"),
        ("\ud800", "lone surrogate at character 0"),
        ({"\udfff": 1}, "lone surrogate"),
    ],
)
def test_canonical_json_refuses_what_it_cannot_write_the_same_way_twice(value: object, told: str) -> None:
    with pytest.raises((TypeError, ValueError), match=told):
        canonical_json(value)  # type: ignore[arg-type]


def test_content_ids_are_as_they_always_were() -> None:
    """Facts are filed under these ids: a change here would make every stored row a stranger."""
    prompt = [{"role": "user", "content": "What is 2 + 2?"}]
    sampler = TypeAdapter(SampleConfig).validate_python({"backend": "transformers", "n": 8, "temperature": 1})
    scorer = TypeAdapter(ScoreConfig).validate_python({"kind": "verifier", "name": "math"})
    assert content_id("prompt", prompt).hex() == GOLDEN["prompt"]
    assert sampler.sampler_id == GOLDEN["sampler"]
    assert config_id("scorer", scorer.identity_values()) == GOLDEN["scorer"]


def test_content_id_of_one_value_differs_by_kind() -> None:
    assert content_id("prompt", "x") != content_id("answer", "x")


def test_sampler_id_ignores_where_and_how_often_and_obeys_what() -> None:
    def sampler_id(**fields: object) -> int:
        return TypeAdapter(SampleConfig).validate_python({"backend": "transformers", **fields}).sampler_id

    assert sampler_id() == sampler_id(n=3, batch_size=7, device="cpu", temperature=1)
    different = [{"temperature": 0.7}, {"seed": 1}, {"system": "x"}, {"dtype": "bfloat16"}, {"stop": ["."]}]
    assert len({sampler_id(), *(sampler_id(**d) for d in different)}) == 1 + len(different)


def test_identity_field_added_later_is_left_out_while_it_has_its_default() -> None:
    class Before(Config):
        identity: ClassVar[tuple[str, ...]] = ("kind",)
        kind: Literal["x"] = "x"

    class After(Before):
        identity_later: ClassVar[tuple[str, ...]] = ("strict",)
        strict: bool = False

    assert After().identity_values() == Before().identity_values()
    assert After(strict=True).identity_values() == {"kind": "x", "strict": True}


@given(st.integers(1, 9), st.binary(min_size=0, max_size=200))
def test_row_ids_are_murmur3_of_the_row_s_bytes(width: int, data: bytes) -> None:
    rows = len(data) // (8 * width)
    words = np.frombuffer(data[: rows * width * 8], "<u8").reshape(rows, width).astype(np.uint64)
    assert row_ids(words).to_pylist() == [mmh3.hash_bytes(row.tobytes(), 0, True) for row in words]


def test_id_words_of_a_slice_are_those_of_its_rows() -> None:
    words = hash128(np.arange(20, dtype=np.uint64).reshape(10, 2))
    assert (id_words(id_column(words).slice(3, 4)) == words[3:7]).all()


ARRAYS = {
    "text": (pa.string(), st.none() | st.text(max_size=5)),
    "number": (pa.float64(), st.none() | st.floats(allow_nan=False)),
    "flag": (pa.bool_(), st.none() | st.booleans()),
    "tokens": (pa.list_(pa.int32()), st.none() | st.lists(st.integers(0, 9), max_size=3)),
    "messages": (
        MESSAGES,
        st.none()
        | st.lists(st.fixed_dictionaries({"role": st.text(max_size=2), "content": st.text(max_size=3)}), max_size=2),
    ),
}


@given(st.data())
def test_row_hashes_depend_on_values_not_on_how_arrow_holds_them(data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 8))
    columns = {n: pa.array([data.draw(s) for _ in range(rows)], t) for n, (t, s) in ARRAYS.items()}
    table = pa.table(columns)
    whole = row_hashes(table, table.column_names)
    cut = data.draw(st.integers(0, rows))
    chunked = pa.concat_tables([table.slice(0, cut), table.slice(cut)])
    assert (row_hashes(chunked, table.column_names) == whole).all()
    alone = [row_hashes(table.slice(i, 1), table.column_names)[0] for i in range(rows)]
    assert alone == whole.tolist()
    values = table.to_pylist()
    same = [(i, j) for i in range(rows) for j in range(i) if repr(values[i]) == repr(values[j])]
    assert all(whole[i] == whole[j] for i, j in same)


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        (["ab", "c"], ["a", "bc"], pa.string()),
        ([None], [""], pa.string()),
        ([[1], [2, 3]], [[1, 2], [3]], pa.list_(pa.int32())),
        ([[1, 2]], [[2, 1]], pa.list_(pa.int32())),
        ([[]], [None], pa.list_(pa.int32())),
        ([0.0], [None], pa.float64()),
        ([False], [None], pa.bool_()),
        ([[{"role": "a", "content": "b"}]], [[{"role": "b", "content": "a"}]], MESSAGES),
    ],
)
def test_row_hashes_tell_near_values_apart(one: list[object], other: list[object], kind: pa.DataType) -> None:
    assert hashed(pa.array(one, kind)).tolist() != hashed(pa.array(other, kind)).tolist()


def test_every_fact_table_has_its_stamps_and_its_key() -> None:
    for table in FACT_TABLES.values():
        assert table.schema.names[0] == "id"
        assert table.schema.names[-2:] == ["batch_id", "row_hash"]
        assert set(table.key) <= set(table.schema.names)


GOLDEN = {
    "prompt": "4be72732f3499c9ec8fe07356962a7a8",
    "sampler": 8488529902082569475,
    "scorer": 6856816269761003606,
}


def test_row_hashes_of_a_repetitive_column_are_those_of_its_rows_alone() -> None:
    roles = pa.table({"role": pa.array(["user", "assistant", None] * 200)})
    whole = row_hashes(roles, ["role"])
    assert [row_hashes(roles.slice(i, 1), ["role"])[0] for i in range(6)] == whole[:6].tolist()
