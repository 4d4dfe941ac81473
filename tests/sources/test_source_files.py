import gzip
import json
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.errors import SourceError
from prefkit.sources.files import file_fingerprint, read_rows
from prefkit.sources.json_lines import read_json_lines
from prefkit.sources.rows import SourceRows, cells


def written(folder: Path, name: str, data: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def column(rows: SourceRows, name: str) -> dict[int, str | None]:
    return dict(zip(rows.numbers, cells(rows, name)["text"], strict=True))


def test_bad_json_lines_cost_only_themselves(tmp_path: Path):
    lines = [
        b'\xef\xbb\xbf{"q": "one"}\r',
        b"{bad",
        b"",
        b'{"q": "\xff"}',
        b'{"q": "\\ud800"}',
        b'{"q": NaN}',
        b'{"q": 1e999}',
        b"[1, 2]",
        b'{"q": "two"} {"q": "three"}',
        b"[" * 100_000,
        b'{"q": "a\x01b"}',
        b'{"q": "\\ud83d\\ude00 \xe2\x80\xa8"}',
        b'{"q": "cut',
    ]
    rows = read_rows(written(tmp_path, "p.jsonl", b"\n".join(lines)))
    assert column(rows, "q") == {1: "one", 12: "😀 \u2028"}
    details = {row: detail for row, _, detail in rows.malformed.iter_rows()}
    assert list(details) == [2, 4, 5, 6, 7, 8, 9, 10, 11, 13]
    assert details[4] == "not UTF-8 at byte 8"
    assert "lone surrogate" in details[5]
    assert details[6] == "NaN is not JSON"
    assert details[8] == "a list, expected an object"
    assert details[10] == "nested too deeply"


def test_columns_of_mixed_json_types_keep_every_cell_as_written(tmp_path: Path):
    values = ["text", 42, 42.0, 0.5, True, None, [1, "a"], {"b": 1, "a": []}, 12345678901234567890123, "[]"]
    data = "\n".join(json.dumps({"v": value}) for value in values)
    found = cells(read_rows(written(tmp_path, "p.jsonl", data)), "v")
    assert found.rows() == [
        ("string", "text"),
        ("number", "42"),
        ("number", "42"),
        ("number", "0.5"),
        ("boolean", "true"),
        (None, None),
        ("list", '[1,"a"]'),
        ("object", '{"a":[],"b":1}'),
        ("number", "12345678901234567890123"),
        ("string", "[]"),
    ]


def test_json_keys_that_first_appear_late_are_columns(tmp_path: Path):
    data = '{"q": "x"}\n' * 500 + '{"late": "y"}\n'
    assert column(read_rows(written(tmp_path, "p.jsonl", data)), "late")[501] == "y"


def test_json_array_is_read_item_by_item(tmp_path: Path):
    rows = read_rows(written(tmp_path, "p.json", '[\n {"q": "one"},\n 7,\n {"q": "\\udc00"},\n {"q": "two"}]'))
    assert column(rows, "q") == {1: "one", 4: "two"}
    assert rows.malformed["row"].to_list() == [2, 3]


@pytest.mark.parametrize(
    ("name", "separator", "line_end"), [("p.csv", ",", "\r\n"), ("p.tsv", "\t", "\n"), ("p.CSV", ",", "\n")]
)
def test_ragged_and_broken_delimited_rows_cost_only_themselves(
    tmp_path: Path, name: str, separator: str, line_end: str
):
    lines = [
        b"q,a",
        b"one,1",
        b"short",
        b"long,1,2",
        b'"two, with ""quotes"" and',
        b'a line break",2',
        b"",
        b"bad \xff,3",
        b'"closed"late,4',
        b"three,",
        b'"never closed,5',
        b"four,4",
    ]
    data = line_end.encode().join(lines).replace(b",", separator.encode())
    rows = read_rows(written(tmp_path, name, data))
    text = column(rows, "q")
    assert list(text) == [2, 5, 10, 12]
    assert [text[row] for row in (2, 10, 12)] == ["one", "three", "four"]
    assert text[5] == f'two{separator} with "quotes" and{line_end}a line break'
    assert column(rows, "a") == {2: "1", 5: "2", 10: None, 12: "4"}
    assert rows.malformed["row"].to_list() == [3, 4, 8, 9, 11]
    assert rows.malformed["detail"].to_list()[:3] == ["1 fields, expected 2", "3 fields, expected 2", "not UTF-8"]


def test_delimited_fields_may_be_longer_than_the_default_limit(tmp_path: Path):
    rows = read_rows(written(tmp_path, "p.csv", "q,a\n" + "x" * 200_000 + ",1\n"))
    assert column(rows, "q") == {2: "x" * 200_000}


@pytest.mark.parametrize("name", ["p.jsonl.gz", "p.jsonl.zst", "P.JSONL.GZ"])
def test_compressed_file_reads_as_its_content(tmp_path: Path, name: str):
    data = b'{"q": "one"}\n'
    packed = gzip.compress(data) if name.lower().endswith("gz") else pa.Codec("zstd").compress(data, asbytes=True)
    assert column(read_rows(written(tmp_path, name, packed)), "q") == {1: "one"}


def test_parquet_cells_have_the_kinds_that_json_has(tmp_path: Path):
    frame = pl.DataFrame(
        {
            "row": ["a", None],
            "number": [1.0, float("nan")],
            "whole": [7, None],
            "messages": [[{"role": "user", "content": "hi"}], None],
            "day": pl.Series([0, 1], dtype=pl.Date),
            "nothing": [None, None],
            "label": pl.Series(["x", None], dtype=pl.Categorical),
        }
    )
    frame.write_parquet(tmp_path / "p.parquet")
    rows = read_rows(tmp_path / "p.parquet")
    first = {name: cells(rows, name).row(0) for name in frame.columns if name != "day"}
    assert first == {
        "row": ("string", "a"),
        "number": ("number", "1"),
        "whole": ("number", "7"),
        "messages": ("list", '[{"content":"hi","role":"user"}]'),
        "nothing": (None, None),
        "label": ("string", "x"),
    }
    assert all(cells(rows, name).row(1) == (None, None) for name in first)
    with pytest.raises(SourceError, match=r"column 'day' .* is of type Date, expected text"):
        cells(rows, "day")


DAMAGED = {
    "missing.jsonl": None,
    "empty.jsonl": b"",
    "empty.jsonl.gz": gzip.compress(b""),
    "prompts.xlsx": b"PK",
    "prompts": b"{}",
    "cut.jsonl.gz": gzip.compress(json.dumps({"q": "x" * 999}).encode())[:-9],
    "no.jsonl.gz": b"plain text",
    "no.jsonl.zst": b"plain text",
    "utf16.jsonl": '{"q": "x"}'.encode("utf-16"),
    "utf16le.csv": "q,a\n".encode("utf-16-le"),
    "no.parquet": b"PAR1 no",
    "no.json": b'[{"q": 1}, ',
    "nul.csv": b"\n\n",
    "twice.csv": b"q,q\n1,2\n",
    "keyed.jsonl": json.dumps({str(i): i for i in range(5_000)}).encode(),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_file_that_cannot_be_read_is_one_line(tmp_path: Path, name: str):
    data = DAMAGED[name]
    path = tmp_path / name if data is None else written(tmp_path, name, data)
    with pytest.raises(SourceError) as caught:
        read_rows(path)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_folder_instead_of_file_is_named(tmp_path: Path):
    (tmp_path / "data.jsonl").mkdir()
    for path in (tmp_path, tmp_path / "data.jsonl"):
        with pytest.raises(SourceError, match="is a folder, expected a file"):
            read_rows(path)


def test_missing_file_suggests_a_near_name(tmp_path: Path):
    written(tmp_path, "problems.jsonl", "{}")
    with pytest.raises(SourceError, match=r"did you mean 'problems\.jsonl'\?"):
        read_rows(tmp_path / "problem.jsonl")


def test_fingerprint_follows_bytes_and_mapping_only(tmp_path: Path):
    path = written(tmp_path, "p.jsonl", '{"q": "x"}')
    before = file_fingerprint(path, {"prompt": "q", "answer": "a"})
    copy = written(tmp_path, "copy.jsonl", path.read_bytes())
    assert file_fingerprint(copy, {"answer": "a", "prompt": "q"}) == before
    assert file_fingerprint(path, {"prompt": "q"}) != before
    assert file_fingerprint(written(tmp_path, "p.jsonl", '{"q": "y"}'), {"prompt": "q", "answer": "a"}) != before


@given(st.lists(st.binary(max_size=40).map(lambda b: b.replace(b"\n", b" ")), max_size=8))
def test_json_lines_of_any_bytes_give_every_line_exactly_one_place(lines: list[bytes]):
    rows = read_json_lines(b"\n".join(lines), "p.jsonl")
    places = sorted([*rows.numbers, *rows.malformed["row"]])
    assert places == [number for number, line in enumerate(lines, start=1) if line.strip()]
