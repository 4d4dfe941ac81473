"""Files as they come: every one ends in one line, or in outcomes that add up to its rows."""

import gzip
import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest

from prefkit.cli import main
from prefkit.identity import Json
from prefkit.records import COMPLETIONS, PROMPTS
from prefkit.store.workspace import Workspace

Outcomes = Mapping[str, Mapping[str, int]]
Captured = pytest.CaptureFixture[str]

PAIRS, SCORES, PROMPT = ("--as", "preferences"), ("--as", "scores"), ("--as", "prompts")
PAIR: dict[str, Json] = {"prompt": "Why?", "chosen": "Because.", "rejected": "No."}
HEAD = "prompt,chosen,rejected\n"
ONE_PAIR: Outcomes = {"prompts": {"imported": 1}, "completions": {"imported": 2}, "comparisons": {"imported": 1}}
TWO_TABLES = """\
name: two
tables:
  - &table
    path: a.parquet
    prompt: {text: prompt, key: id}
    completions: {reply: {text: reply, model: model}}
    scores: [{score: score, scorer: =judge}]
  - {<<: *table, path: b.parquet}
"""
INTEGERS = {"id": [1, 2], "prompt": ["a", "b"], "reply": ["x", "y"], "model": "m", "score": [1, 2]}
TEXTS = {"id": ["3", "4"], "prompt": [None, "d"], "reply": ["x", "y"], "model": ["m", None], "score": ["1.5", "high"]}


class Dirty(NamedTuple):
    """A file, how it is imported, and how that ends: words of the one line, or outcomes of so many rows."""

    name: str
    data: bytes | str
    arguments: Sequence[str] = PAIRS
    ends: str | Outcomes = ONE_PAIR
    rows: int = 1
    beside: Mapping[str, bytes] = {}


def lines(*rows: object) -> str:
    return "\n".join(json.dumps(row) for row in rows)


def parquet(columns: Mapping[str, object]) -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame(columns, strict=False).write_parquet(buffer)
    return buffer.getvalue()


def workbook() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/worksheets/sheet1.xml", "<row><c>prompt</c></row>" * 50)
    return buffer.getvalue()


def scored(*values: Json) -> list[dict[str, Json]]:
    return [{"prompt": f"p{i}", "completion": "c", "model": "m", "score": value} for i, value in enumerate(values)]


def nested(levels: int) -> str:
    return '{"prompt": "Why?", "chosen": ' + "[" * levels + "]" * levels + ', "rejected": "No."}\n'


def beside_a_good_pair(**outcomes: Mapping[str, int]) -> Outcomes:
    """The outcomes of a good pair and of what stands beside it."""
    return {what: {**ends, **outcomes.get(what, {})} for what, ends in ONE_PAIR.items()}


def answers(*rejected: Mapping[str, Json]) -> str:
    """Pairs of one prompt, each with another message on the rejected side."""
    return lines(PAIR, *({**PAIR, "rejected": [message]} for message in rejected))


MALFORMED = beside_a_good_pair(prompts={"malformed": 1})
GOOD_SCORES = {"prompts": {"imported": 3}, "completions": {"imported": 3}}
LISTS: list[dict[str, Json]] = [
    {"instruction": "i", "generations": ["a", "b"], "ratings": [1, 2]},
    {"instruction": "j", "generations": ["a"], "ratings": [1, 2]},
    {"instruction": "k", "generations": ["a", "b"], "ratings": [1]},
]

DIRTY = {
    # ------------------------------------------------------------------ encodings
    "latin-1 in one row of a CSV": Dirty(
        "f.csv", f"{HEAD}caf\xe9,a,b\nWhy?,a,b\n".encode("latin-1"), ends=MALFORMED, rows=2
    ),
    "latin-1 in one line of JSON": Dirty(
        "f.jsonl", f'{lines(PAIR)}\n{{"prompt": "caf\xe9"}}'.encode("latin-1"), ends=MALFORMED, rows=2
    ),
    "latin-1 in a header": Dirty("f.csv", "caf\xe9,b\n1,2\n".encode("latin-1"), ends="header line of f.csv is not"),
    "UTF-16 JSON": Dirty("f.jsonl", lines(PAIR).encode("utf-16"), ends="f.jsonl is UTF-16, expected UTF-8"),
    "UTF-16 CSV": Dirty("f.csv", f"{HEAD}a,b,c\n".encode("utf-16"), ends="f.csv is UTF-16, expected UTF-8"),
    "byte order mark": Dirty("f.csv", f"\ufeff{HEAD}Why?,a,b\n"),
    "byte order mark in the middle": Dirty(
        "f.jsonl", f"{lines(PAIR)}\n\ufeff{lines(PAIR)}", ends=MALFORMED, rows=2
    ),
    # ------------------------------------------------------------------ damaged and mislabelled files
    "truncated gzip": Dirty("f.jsonl.gz", gzip.compress(lines(PAIR).encode() * 99)[:-20], ends="cannot be unpacked"),
    "gzip that is none": Dirty("f.jsonl.gz", lines(PAIR), ends="cannot be unpacked"),
    "gzip without its ending": Dirty("f.jsonl", gzip.compress(lines(PAIR).encode()), ends="is gzip data"),
    "Parquet cut in half": Dirty("f.parquet", parquet(PAIR)[: len(parquet(PAIR)) // 2], ends="no readable Parquet"),
    "Parquet called JSON": Dirty("f.jsonl", parquet(PAIR), ends="f.jsonl is a Parquet file"),
    "pointer instead of the file": Dirty(
        "f.parquet", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", ends="git lfs pull"
    ),
    "workbook called CSV": Dirty("f.csv", workbook(), ends="an Excel workbook"),
    "web page called JSON": Dirty("f.jsonl", "<html>\nnot found", ends="none of its 2 rows can be read"),
    "empty file": Dirty("f.jsonl", "", ends="f.jsonl is empty"),
    "only blank lines of JSON": Dirty("f.jsonl", "\n \n\t\n", ends="is an empty dataset"),
    "only blank lines of CSV": Dirty("f.csv", "\n \n\n", ends="f.csv is empty"),
    "only a header": Dirty("f.csv", HEAD, ends="is an empty dataset"),
    "an array called JSON lines": Dirty("f.jsonl", json.dumps([PAIR]), ends="a list, expected an object"),
    "an array over several lines called JSON lines": Dirty(
        "f.jsonl", json.dumps([PAIR], indent=1), ends="none of its 7 rows can be read"
    ),
    "JSON lines called an array": Dirty(
        "f.json", lines(PAIR, {**PAIR, "chosen": "Well."}), rows=2,
        ends={"prompts": {"imported": 1, "duplicate": 1}, "completions": {"imported": 3, "duplicate": 1},
              "comparisons": {"imported": 2}},
    ),
    "array that is cut off": Dirty("f.json", json.dumps([PAIR, PAIR])[:-5], ends="f.json is no JSON array"),
    # ------------------------------------------------------------------ tables
    "rows of different lengths": Dirty(
        "f.csv", f"{HEAD}a,b\na,b,c,d\na,b,c\n", ends=beside_a_good_pair(prompts={"malformed": 2}), rows=3
    ),
    "quote that is never closed": Dirty("f.csv", f'{HEAD}"a,b,c\nd,e,f\n', ends=MALFORMED, rows=2),
    "semicolons between the columns": Dirty("f.csv", HEAD.replace(",", ";") + "a;b;c\n", ends="no column 'prompt'"),
    "spaces around the names": Dirty("f.csv", "prompt, chosen, rejected\na,b,c\n", ends="got prompt, ' chosen'"),
    "one name for two columns": Dirty("f.csv", "prompt,chosen,chosen\na,b,c\n", ends="has 'chosen' twice"),
    "escape sequence as a name": Dirty("f.csv", "\x1b[31mprompt,chosen,rejected\na,b,c\n", ends="no column 'prompt'"),
    "a key twice in one object": Dirty(
        "f.jsonl", f'{lines(PAIR)}\n{{"prompt": "Why?", "prompt": "How?"}}', ends=MALFORMED, rows=2
    ),
    "tables of different types": Dirty(
        "import.yaml", TWO_TABLES, (), rows=4, beside={"a.parquet": parquet(INTEGERS), "b.parquet": parquet(TEXTS)},
        ends={"prompts": {"imported": 3, "missing_prompt": 1}, "completions": {"imported": 3, "unknown_prompt": 1},
              "scores": {"imported": 2, "unknown_prompt": 1, "unparsable": 1}},
    ),
    "tables of different columns": Dirty(
        "import.yaml", TWO_TABLES, (), "column 'score' is not in b.parquet",
        beside={"a.parquet": parquet(INTEGERS), "b.parquet": parquet({k: v for k, v in TEXTS.items() if k != "score"})},
    ),
    # ------------------------------------------------------------------ scores
    "NaN and infinity in JSON": Dirty(
        "f.jsonl", lines(*scored(float("nan"), 3.0, float("inf"))), SCORES, rows=3,
        ends={"prompts": {"imported": 1, "malformed": 2}, "completions": {"imported": 1}, "scores": {"imported": 1}},
    ),
    "NaN, infinity and null in Parquet": Dirty(
        "f.parquet",
        parquet({"prompt": ["a", "b", "c"], "completion": "c", "score": [float("nan"), float("inf"), None]}),
        SCORES, {**GOOD_SCORES, "scores": {"unparsable": 2, "unrated": 1}}, 3,
    ),
    "numbers that are texts": Dirty(
        "f.jsonl", lines(*scored(" 4 ", "4,5", "8/10")), SCORES,
        {**GOOD_SCORES, "scores": {"imported": 1, "unparsable": 2}}, 3,
    ),
    "truth values": Dirty(
        "f.jsonl", lines(*scored(True, False, "true")), SCORES,
        {**GOOD_SCORES, "scores": {"imported": 2, "unparsable": 1}}, 3,
    ),
    "dates that are texts": Dirty(
        "f.jsonl", lines(*scored("2024-01-31", "31.1.2024", 2024)), SCORES,
        {**GOOD_SCORES, "scores": {"imported": 1, "unparsable": 2}}, 3,
    ),
    "dates": Dirty(
        "f.parquet", parquet({"prompt": "a", "completion": "c", "score": pl.Series([0], dtype=pl.Date)}), SCORES,
        "column 'score' of f.parquet is of type Date",
    ),
    "numbers too large to hold": Dirty(
        "f.jsonl", lines(*scored(1)) + "\n" + lines(*scored(2)).replace("2", "9" * 5_000), SCORES, rows=2,
        ends={"prompts": {"imported": 1, "malformed": 1}, "completions": {"imported": 1}, "scores": {"imported": 1}},
    ),
    "fewer completions than ratings, and the reverse": Dirty(
        "f.jsonl",
        lines(*LISTS),
        ("--adapter", "ultrafeedback_lists"), rows=3,
        ends={"prompts": {"imported": 3}, "completions": {"imported": 5}, "scores": {"imported": 2, "malformed": 2}},
    ),
    # ------------------------------------------------------------------ texts and conversations
    "rows of 60,000 characters": Dirty("f.jsonl", lines({k: str(v) * 12_000 for k, v in PAIR.items()})),
    "control characters": Dirty("f.jsonl", lines({"prompt": "\x1b[31m", "chosen": "\x1b]0;t\x07", "rejected": "\r"})),
    "NUL, written out": Dirty("f.jsonl", lines({**PAIR, "chosen": "a\x00b"})),
    "NUL bytes in JSON": Dirty("f.jsonl", f'{lines(PAIR)}\n{{"prompt": "a\x00b"}}', ends=MALFORMED, rows=2),
    "lone surrogate": Dirty("f.jsonl", f'{lines(PAIR)}\n{{"prompt": "\\ud800"}}', ends=MALFORMED, rows=2),
    "lone surrogate in a key": Dirty("f.jsonl", f'{lines(PAIR)}\n{{"\\ud800": 1}}', ends=MALFORMED, rows=2),
    "one key for two prompts": Dirty(
        "f.jsonl", lines({"key": 1, "prompt": "a"}, {"key": "1", "prompt": "b"}, {"key": 1.0, "prompt": "a"}), PROMPT,
        {"prompts": {"imported": 1, "conflicting_key": 1, "duplicate": 1}}, 3,
    ),
    "mixed types in one column": Dirty(
        "f.jsonl",
        lines(*({"prompt": p} for p in ("a", 7, True, ["x"], {"a": 1}, None, " ", [{"role": "user", "content": "b"}]))),
        PROMPT, {"prompts": {"imported": 2, "unsupported_content": 4, "missing_prompt": 1, "empty_prompt": 1}}, 8,
    ),
    "nulls within messages": Dirty(
        "f.parquet",
        parquet(
            {
                "prompt": [[{"role": "user", "content": t}] for t in ("a", None)] + [[None], [], None],
                "chosen": ["x"] * 5,
                "rejected": [None, "y", "y", "y", "y"],
            }
        ),
        rows=5,
        ends={"prompts": {"imported": 1, "unsupported_content": 2, "empty_prompt": 1, "missing_prompt": 1},
              "completions": {"imported": 1, "missing_text": 1, "unknown_prompt": 8},
              "comparisons": {"missing_completion": 1, "unknown_prompt": 4}},
    ),
    "unknown roles, tool calls and images": Dirty(
        "f.jsonl",
        answers(
            {"role": "bot", "content": "x"},
            {"role": "tool", "content": "x"},
            {"role": "assistant", "content": None, "tool_calls": [{"id": 1}]},
            {"role": "assistant", "content": [{"type": "image_url"}]},
        ),
        rows=5,
        ends=beside_a_good_pair(
            prompts={"duplicate": 4}, completions={"duplicate": 4, "unsupported_content": 4},
            comparisons={"missing_completion": 4},
        ),
    ),
    "1,000 levels of JSON": Dirty("f.jsonl", nested(1_000) + lines(PAIR), ends=MALFORMED, rows=2),
    "almost as many levels as the stack has": Dirty("f.jsonl", nested(975) + lines(PAIR), ends=MALFORMED, rows=2),
    "100,000 levels of JSON": Dirty("f.jsonl", nested(100_000) + lines(PAIR), ends=MALFORMED, rows=2),
}  # fmt: skip
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def written(folder: Path, dirty: Dirty) -> str:
    """Puts the files into the folder; the path of the one that is imported."""
    for name, data in {dirty.name: dirty.data, **dirty.beside}.items():
        (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return dirty.name


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace, which is also the working folder."""
    monkeypatch.chdir(tmp_path)
    Workspace.create(tmp_path)
    return tmp_path


@pytest.mark.parametrize("dirty", DIRTY.values(), ids=DIRTY.keys())
def test_dirty_input_ends_in_one_line_or_in_outcomes_of_all_rows(folder: Path, capsys: Captured, dirty: Dirty) -> None:
    code = main(["import", written(folder, dirty), *dirty.arguments, "--json"])
    out, err = capsys.readouterr()
    if isinstance(dirty.ends, str):
        assert (code, out) == (2, "")
        assert dirty.ends in err
        assert err.startswith("error: ")
        assert CONTROL.search(err.removesuffix("\n")) is None
        assert err.count("\n") == 1
    else:
        assert code == 0, err
        outcomes = json.loads(out)["outcomes"]
        assert outcomes == dirty.ends
        assert sum(outcomes["prompts"].values()) == dirty.rows
    assert main(["verify"]) == 0


@pytest.mark.parametrize("dirty", DIRTY.values(), ids=DIRTY.keys())
def test_preview_of_dirty_input_changes_nothing_and_leaves_the_terminal_alone(
    folder: Path, capsys: Captured, dirty: Dirty
) -> None:
    heads = Workspace.open(folder).facts.heads()
    code = main(["import", written(folder, dirty), *dirty.arguments, "--preview", "2"])
    out, err = capsys.readouterr()
    assert (code, bool(out), bool(err)) in [(0, True, False), (2, False, True)]
    assert CONTROL.search(out.replace("\n", "")) is None
    assert Workspace.open(folder).facts.heads() == heads


@pytest.mark.parametrize("text", ["\x1b[2J\x07\x00\x08", "\r\n\u2028\u200b\ufeff", "x" * 60_000, "\U0001f600 \u0301"])
def test_odd_texts_are_stored_as_they_came(folder: Path, text: str) -> None:
    (folder / "f.jsonl").write_text(lines({"prompt": f"p{text}", "chosen": f"c{text}", "rejected": f"r{text}"}))
    assert main(["import", "f.jsonl", *PAIRS]) == 0
    facts = Workspace.open(folder).facts
    prompts, completions = facts.read(PROMPTS, ["messages"]), facts.read(COMPLETIONS, ["completion"])
    assert [messages[0]["content"] for messages in prompts["messages"]] == [f"p{text}"]
    assert {messages[0]["content"] for messages in completions["completion"]} == {f"c{text}", f"r{text}"}
