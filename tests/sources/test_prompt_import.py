import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.identity import Json, content_id
from prefkit.records import PROMPTS, TASKS
from prefkit.sampling.protocol import Message
from prefkit.sources.conversations import prompt_id
from prefkit.sources.files import read_rows
from prefkit.sources.json_lines import read_json_lines
from prefkit.sources.linking.facts import fact_parts
from prefkit.sources.linking.whole import Known, Linked, linked
from prefkit.sources.presets import preset
from prefkit.sources.rows import SourceRows
from prefkit.sources.shaping import shaped

MAP = {"prompt": "q", "answer": "a"}


def linked_prompts(rows: SourceRows, mapping: dict[str, str], source: str) -> Linked:
    table = preset("prompts", mapping, rows.name, rows.frame.columns, source)
    return linked([shaped(rows, table)], source, Known())


def imported(records: list[dict[str, Json]], mapping: dict[str, str] | None = None, source: str = "math") -> Linked:
    data = "\n".join(json.dumps(record) for record in records)
    usual = {ours: theirs for ours, theirs in MAP.items() if any(theirs in record for record in records)}
    return linked_prompts(read_json_lines(data.encode(), "p.jsonl"), usual if mapping is None else mapping, source)


def ends(found: Linked) -> list[tuple[int, str, str | None]]:
    return found.outcomes.select("row", "outcome", "detail").rows()


def outcome_of(record: dict[str, Json], mapping: dict[str, str] | None = None) -> tuple[str, str | None]:
    """The outcome of a record that has a good one beside it."""
    rows = ends(imported([{"q": "a good one", "a": "1"}, record], mapping))
    assert rows[0] == (1, "imported", None)
    return rows[1][1:]


def user(content: Json, **more: Json) -> dict[str, Json]:
    return {"role": "user", "content": content, **more}


def test_plain_prompt_is_one_user_message_with_the_content_id_of_its_messages():
    found = imported([{"q": "1+1?", "a": "2", "split": "train"}])
    (prompt,) = found.prompts.to_dicts()
    (task,) = found.tasks.to_dicts()
    assert prompt["messages"] == [user("1+1?")]
    assert prompt["id"] == task["prompt_id"] == content_id("prompt", [user("1+1?")])
    assert {k: v for k, v in task.items() if k not in ("id", "prompt_id")} == {
        "answer": "2",
        "source": "math",
        "split": "train",
        "metadata": None,
    }


def test_tables_have_the_types_of_the_records_but_for_the_stamp():
    found = imported([{"q": "1+1?", "a": "2"}])
    for rows, record in ((found.prompts, PROMPTS), (found.tasks, TASKS)):
        (table,) = fact_parts(record, rows)
        assert list(table.schema) == [f for f in record.schema if f.name not in ("batch_id", "row_hash")]


def test_prompt_written_as_text_and_as_conversation_is_one_prompt():
    found = imported([{"q": "1+1?", "a": "2"}, {"q": [user("1+1?")], "a": "3"}, {"q": [user("1+1?")], "a": "2"}])
    assert found.prompts.height == 1
    assert ends(found) == [(1, "imported", None), (2, "imported", None), (3, "duplicate", "same as row 1")]
    assert found.counts() == {"prompts": {"imported": 2, "duplicate": 1}}


def test_conversation_is_kept_turn_by_turn():
    turns: list[Json] = [
        {"role": "system", "content": ""},
        user("hi", name=None, tool_calls=[]),
        {"role": "assistant", "content": "hello"},
        user(" 1+1?\n"),
    ]
    (prompt,) = imported([{"q": turns}]).prompts.to_dicts()
    assert [(m["role"], m["content"]) for m in prompt["messages"]] == [
        ("system", ""),
        ("user", "hi"),
        ("assistant", "hello"),
        ("user", " 1+1?\n"),
    ]


@pytest.mark.parametrize(
    ("prompt", "outcome", "detail"),
    [
        (None, "missing_prompt", None),
        ("", "empty_prompt", None),
        (" \n\t\u3000", "empty_prompt", None),
        ([], "empty_prompt", None),
        ([user(" ")], "empty_prompt", None),
        (42, "unsupported_content", "the prompt is of kind number"),
        (True, "unsupported_content", "the prompt is of kind boolean"),
        ({"role": "user", "content": "x"}, "unsupported_content", "the prompt is of kind object"),
        (["x"], "unsupported_content", "message 1 is no object"),
        ([[user("x")]], "unsupported_content", "message 1 is no object"),
        ([user(None)], "unsupported_content", "message 1 has content that is not a string"),
        ([user([{"type": "image"}])], "unsupported_content", "message 1 has content that is not a string"),
        ([user([{"type": "text", "text": "x"}])], "unsupported_content", "message 1 has content that is not a string"),
        ([{"from": "human", "value": "x"}], "unsupported_content", "message 1 has the role None"),
        ([user("x"), {"role": "tool", "content": "x"}], "unsupported_content", "message 2 has the role 'tool'"),
        ([{"role": ["user"], "content": "x"}], "unsupported_content", "message 1 has the role ['user']"),
        ([user("x", tool_calls=[{"id": 1}])], "unsupported_content", "message 1 has 'tool_calls'"),
        (
            [user("x"), {"role": "assistant", "content": "y"}],
            "unsupported_content",
            "the last message is from 'assistant'",
        ),
        ([user("x"), {"role": "system", "content": "y"}], "unsupported_content", "the last message is from 'system'"),
    ],
)
def test_prompt_that_cannot_be_carried_has_its_outcome(prompt: Json, outcome: str, detail: str | None):
    got, why = outcome_of({"q": prompt, "a": "1"})
    assert got == outcome
    assert why is None if detail is None else (why or "").startswith(detail)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("42", "42"),
        ("42.0", "42.0"),
        (42, "42"),
        (42.0, "42"),
        (-0.5, "-0.5"),
        (1e22, "1e+22"),
        (True, "true"),
        ("", ""),
    ],
)
def test_answer_is_kept_as_text(answer: Json, text: str):
    assert imported([{"q": "x", "a": answer}]).tasks["answer"].to_list() == [text]


@pytest.mark.parametrize("answer", [["1", "2"], {"value": 1}, []])
def test_answer_of_another_kind_is_an_outcome(answer: Json):
    assert outcome_of({"q": "x", "a": answer})[0] == "unsupported_answer"


def test_split_of_another_kind_is_malformed():
    outcome, detail = outcome_of({"q": "x", "split": ["train"]})
    assert (outcome, detail) == ("malformed", "the split is of kind list, expected text or a number")


def test_row_with_two_faults_has_one_outcome():
    assert len(ends(imported([{"q": "a good one"}, {"q": None, "a": ["1"]}]))) == 2


def test_task_id_changes_with_every_part_of_the_task():
    base: dict[str, Json] = {"q": "x", "a": "1", "split": "train", "metadata": {"n": 1}}
    changes: list[dict[str, Json]] = [
        {},
        {"q": "y"},
        {"a": "2"},
        {"a": None},
        {"split": "test"},
        {"metadata": {"n": 2}},
    ]
    ids = imported([base | change for change in changes]).tasks["id"].to_list()
    ids += imported([base], source="other").tasks["id"].to_list()
    assert len(set(ids)) == len(changes) + 1


def test_task_id_does_not_depend_on_the_rest_of_the_file():
    records: list[dict[str, Json]] = [{"q": f"{i} + 1?", "a": i + 1} for i in range(9)]
    ids = imported(records).tasks["id"].to_list()
    assert [imported([record]).tasks["id"].to_list()[0] for record in records] == ids
    assert imported(records[::-1]).tasks["id"].to_list() == ids[::-1]


@pytest.mark.parametrize(
    ("record", "mapped", "metadata"),
    [
        ({"m": {"b": 1, "a": "x"}}, "m", '{"a":"x","b":1}'),
        ({"m": '{"b": 1.5}'}, "m", '{"b":1.5}'),
        ({"m": "hard"}, "m", '{"m":"hard"}'),
        ({"m": "{broken"}, "m", '{"m":"{broken"}'),
        ({"m": "hard", "n": 3}, "n, m", '{"m":"hard","n":3}'),
        ({"m": "hard", "n": None}, "m,n", '{"m":"hard"}'),
        ({"m": [1, {"x": None}], "n": True}, "m,n", '{"m":[1,{"x":null}],"n":true}'),
        ({"m,n": "odd"}, "m,n", '{"m,n":"odd"}'),
        ({"m": None}, "m", None),
        ({"n": 3}, "", None),
    ],
)
def test_metadata_is_canonical_json_of_an_object(record: dict[str, Json], mapped: str, metadata: str | None):
    mapping = {"prompt": "q", "metadata": mapped} if mapped else {"prompt": "q"}
    assert imported([{"q": "x"} | record], mapping).tasks["metadata"].to_list() == [metadata]


def test_unmapped_columns_are_not_kept():
    assert imported([{"q": "x", "secret": "s"}]).tasks.equals(imported([{"q": "x"}]).tasks)


def test_csv_import_accounts_for_every_row(tmp_path: Path):
    path = tmp_path / "p.csv"
    path.write_bytes(b'q,a\n1+1?,2\n,3\nragged\n"  ",4\n1+1?,2\n2+2?,\n')
    found = linked_prompts(read_rows(path), MAP, "math")
    assert [row[:2] for row in ends(found)] == [
        (2, "imported"),
        (3, "missing_prompt"),
        (4, "malformed"),
        (5, "empty_prompt"),
        (6, "duplicate"),
        (7, "imported"),
    ]
    assert found.tasks["answer"].to_list() == ["2", None]


def test_parquet_conversations_import_like_json_ones(tmp_path: Path):
    frame = pl.DataFrame({"q": [[user("1+1?")], None, [user(None)]], "a": [2.0, None, 1.0]})
    frame.write_parquet(tmp_path / "p.parquet")
    found = linked_prompts(read_rows(tmp_path / "p.parquet"), MAP, "math")
    assert found.outcomes["outcome"].to_list() == ["imported", "missing_prompt", "unsupported_content"]
    assert found.tasks.equals(imported([{"q": "1+1?", "a": 2}]).tasks)


def test_very_long_prompt_is_kept_exactly():
    text = "a\u0000\u0007\ufeff\U0010ffff " * 12_000
    assert imported([{"q": text}]).prompts["messages"].to_list() == [[user(text)]]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.lists(st.builds(Message, role=TEXT, content=TEXT), max_size=3))
def test_prompt_id_is_the_content_id_of_any_messages(messages: list[Message]):
    assert prompt_id(messages) == content_id("prompt", [{"role": m["role"], "content": m["content"]} for m in messages])


@given(st.lists(st.tuples(TEXT.map(lambda t: t + "?"), TEXT | st.none(), TEXT | st.none()), min_size=1, max_size=6))
def test_tasks_hold_exactly_what_the_lines_said(rows: list[tuple[str, str | None, str | None]]):
    found = imported([{"q": q, "a": a, "split": s} for q, a, s in rows])
    prompts = {p["id"]: p["messages"][0]["content"] for p in found.prompts.to_dicts()}
    tasks = [(prompts[t["prompt_id"]], t["answer"], t["split"]) for t in found.tasks.to_dicts()]
    assert tasks == list(dict.fromkeys(rows))
    assert sum(found.counts()["prompts"].values()) == len(rows)


@given(st.lists(st.tuples(st.text(max_size=5), st.booleans()), min_size=1, max_size=6))
def test_any_text_lone_surrogates_included_ends_in_an_outcome(texts: list[tuple[str, bool]]):
    records: list[dict[str, Json]] = [{"q": t if plain else [user(t)]} for t, plain in texts]
    found = imported([{"q": "a good one"}, *records])
    assert found.outcomes["row"].to_list() == list(range(1, len(texts) + 2))
