import json
from collections.abc import Mapping

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.errors import SourceError
from prefkit.identity import Json
from prefkit.sources.config import JoinFields, TableConfig
from prefkit.sources.joining import joined
from prefkit.sources.json_lines import read_json_lines
from prefkit.sources.rows import SourceRows, cells, source_rows
from prefkit.sources.shaping import shaped


def lines(name: str, *records: Mapping[str, Json] | str) -> SourceRows:
    texts = [record if isinstance(record, str) else json.dumps(record) for record in records]
    return read_json_lines("\n".join(texts).encode(), name)


def on(*columns: str) -> JoinFields:
    return JoinFields(path="other.jsonl", on=columns)


def texts(rows: SourceRows, column: str) -> list[str | None]:
    return cells(rows, column)["text"].to_list()


def test_rows_get_the_columns_of_the_row_with_their_key_and_keep_their_order() -> None:
    rows = lines("a.jsonl", {"id": 2, "x": "b"}, {"id": 1, "x": "a"}, {"id": 2, "x": "c"}, {"id": None, "x": "d"})
    other = lines(
        "b.jsonl", {"id": "1", "y": ["one"]}, {"id": "2", "y": 2.0}, {"id": None, "y": "none"}, {"id": "9", "y": 0}
    )
    found = joined(rows, other, on("id"))
    assert found.name == "a.jsonl"
    assert found.frame.columns == ["id", "x", "y"]
    assert texts(found, "x") == ["b", "a", "c", "d"]
    assert texts(found, "y") == ["2", '["one"]', "2", None]


def test_join_on_several_columns_needs_all_of_them() -> None:
    rows = lines("a.jsonl", {"t": "x", "i": 1}, {"t": "y", "i": 1}, {"t": "y", "i": None})
    other = lines("b.jsonl", {"i": 1, "t": "y", "z": "here"}, {"i": None, "t": "y", "z": "there"})
    assert texts(joined(rows, other, on("t", "i")), "z") == [None, "here", None]


def test_column_that_both_files_have_is_called_after_its_file() -> None:
    rows = lines("runs/answers.jsonl.gz", {"id": 1, "text": "mine"})
    other = lines("runs/prompts.v2.jsonl", {"id": 1, "text": "theirs"})
    found = joined(rows, other, on("id"))
    assert (texts(found, "text"), texts(found, "prompts.text")) == (["mine"], ["theirs"])


def test_several_rows_with_a_key_that_is_looked_for_are_an_error() -> None:
    other = lines("b.jsonl", {"id": 5}, {"id": 7}, {"id": 7}, {"id": 7})
    assert len(joined(lines("a.jsonl", {"id": 5}), other, on("id")).frame) == 1
    with pytest.raises(SourceError) as refused:
        joined(lines("a.jsonl", {"id": 7}), other, on("id"))
    assert str(refused.value) == (
        "b.jsonl has 3 rows with the key '7' (rows 2 and 3, ...), expected one to join to a.jsonl: join on more columns"
    )


def test_key_column_that_one_file_lacks_is_told_with_that_file() -> None:
    with pytest.raises(SourceError, match=r"column 'id' is not in b.jsonl; did you mean 'idx'\?"):
        joined(lines("a.jsonl", {"id": 5}), lines("b.jsonl", {"idx": 5}), on("id"))


def test_row_of_the_other_file_that_was_not_read_is_told_with_that_file() -> None:
    rows = lines("a.jsonl", {"id": 1, "q": "x"}, {"id": 2, "q": "y"})
    found = joined(rows, lines("b.jsonl", {"id": 1, "a": "2"}, "{broken"), on("id"))
    mapping = TableConfig.model_validate({"path": "a.jsonl", "prompt": {"text": "q", "answer": "a"}})
    made = shaped(found, mapping)
    assert made.prompts["answer"].to_list() == ["2", None]
    ((row, what, outcome, detail),) = made.refused.rows()
    assert (row, what, outcome) == (2, "prompts", "malformed")
    assert detail.startswith("b.jsonl: ")


@given(st.lists(st.integers(0, 5), max_size=8), st.lists(st.integers(0, 5), unique=True))
def test_join_finds_what_a_dictionary_finds(here: list[int], there: list[int]) -> None:
    rows = source_rows("a", range(len(here)), pl.DataFrame({"id": pl.Series(here, dtype=pl.Int8)}), frozenset(), [])
    frame = pl.DataFrame({"id": pl.Series(there, dtype=pl.Int64), "y": [f"row {n}" for n in there]})
    other = source_rows("b", range(len(there)), frame, frozenset(), [])
    known = {n: f"row {n}" for n in there}
    assert joined(rows, other, on("id")).frame["y"].to_list() == [known.get(n) for n in here]
