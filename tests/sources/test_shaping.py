import json
from collections.abc import Mapping
from itertools import product

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.errors import SourceError
from prefkit.identity import Json
from prefkit.sources.config import TableConfig
from prefkit.sources.json_lines import read_json_lines
from prefkit.sources.rows import SourceRows, source_rows
from prefkit.sources.shaped import COMPARISONS, COMPLETIONS, PROMPTS, REFUSED, SCORES, Shaped
from prefkit.sources.shaping import shaped

USER = [{"role": "user", "content": "hi"}]


def lines(*records: Mapping[str, Json] | str) -> SourceRows:
    """The rows of a JSON Lines file; a string stands as it is, so that it can be a broken line."""
    texts = [record if isinstance(record, str) else json.dumps(record) for record in records]
    return read_json_lines("\n".join(texts).encode(), "t.jsonl")


def columns(**cells: object) -> SourceRows:
    """The rows of a file with typed columns."""
    frame = pl.DataFrame(cells)
    return source_rows("t.parquet", range(1, len(frame) + 1), frame, frozenset(), [])


def shape(rows: SourceRows, **mapping: object) -> Shaped:
    return shaped(rows, TableConfig.model_validate({"path": "t", **mapping}))


def prompts(rows: SourceRows, **fields: object) -> list[dict[str, object]]:
    """The prompts, without the fields that are null."""
    found = shape(rows, prompt={"text": "q", **fields}).prompts.to_dicts()
    return [{name: value for name, value in prompt.items() if value is not None} for prompt in found]


def refusals(found: Shaped) -> list[tuple[object, ...]]:
    return found.refused.rows()


def test_prompt_without_key_has_one_of_its_own_that_other_tables_cannot_use() -> None:
    rows = lines({"q": "one", "c": "1"}, "", {"q": "one", "c": "2"})
    found = shape(rows, prompt={"text": "q"}, completions={"answer": {"text": "c"}})
    assert not found.keyed
    assert found.prompts["key"].n_unique() == 2
    assert found.completions["prompt"].to_list() == found.prompts["key"].to_list()
    assert found.prompts["row"].to_list() == [1, 3]


def test_prompt_keeps_what_stands_beside_it() -> None:
    rows = lines({"q": "1+1?", "id": 7, "gold": 2.0, "kind": "sum", "part": "test", "level": 3, "tag": None})
    fields = {"key": "id", "answer": "gold", "source": "kind", "split": "part", "metadata": ["level", "tag"]}
    assert prompts(rows, **fields) == [
        {
            "row": 1, "key": "7", "kind": "string", "text": "1+1?", "answer": "2", "source": "sum", "split": "test",
            "metadata": '{"level":3}',
        }
    ]  # fmt: skip


def test_literals_stand_for_columns_everywhere() -> None:
    found = shape(
        lines({"q": "1+1?", "c": "2"}),
        prompt={"text": ["=Answer briefly.", "q"], "split": "=train", "answer": "=2", "key": ["=sums", "q"]},
        completions={"c": {"text": "c", "model": "=gpt-4"}},
        scores=[{"score": "=1", "scorer": "=people", "repeat": "=3", "aspect": "=help", "rationale": "=so"}],
    )
    assert found.prompts.select("text", "split", "answer", "key").row(0) == (
        "Answer briefly.\n\n1+1?", "train", "2", "sums/1+1?",
    )  # fmt: skip
    assert found.completions["model"].to_list() == ["gpt-4"]
    said = found.scores.select("score", "scorer", "repeat", "aspect", "rationale").row(0)
    assert said == (1.0, "people", 3, "help", "so")


def test_prompt_of_several_columns_joins_the_texts_that_are_not_blank() -> None:
    rows = lines(
        {"q": "Translate.", "input": "Hallo\n"},
        {"q": "Sing.", "input": ""},
        {"q": None, "input": " x"},
        {"q": None, "input": None},
        {"q": " ", "input": None},
        {"q": "Look.", "input": [1]},
    )
    found = shape(rows, prompt={"text": ["q", "input"]})
    assert found.prompts.select("row", "kind", "text").rows() == [
        (1, "string", "Translate.\n\nHallo\n"),
        (2, "string", "Sing."),
        (3, "string", " x"),
        (4, None, None),
        (5, "string", ""),
    ]
    detail = "column 'input' is of kind list, expected text as one of several"
    assert refusals(found) == [(6, "prompts", "unsupported_content", detail)]


def test_prompt_of_one_column_may_be_messages_and_is_judged_later() -> None:
    rows = lines({"q": USER}, {"q": None}, {"q": 5})
    found = shape(rows, prompt={"text": "q"}).prompts.select("kind", "text").rows()
    assert found == [("list", '[{"content":"hi","role":"user"}]'), (None, None), ("number", "5")]


def test_answer_that_is_no_text_is_refused_with_its_outcome() -> None:
    rows = lines({"q": "one", "a": [1], "s": "x"}, {"q": "two", "a": True, "s": {}}, {"q": "three", "a": 0.50, "s": ""})
    found = shape(rows, prompt={"text": "q", "answer": "a", "split": "s"})
    assert found.prompts.select("row", "answer", "split").rows() == [(3, "0.5", "")]
    assert refusals(found) == [
        (1, "prompts", "unsupported_answer", "the answer is of kind list, expected text or a number"),
        (2, "prompts", "malformed", "the split is of kind object, expected text or a number"),
    ]


def test_key_without_one_of_its_parts_is_missing() -> None:
    rows = columns(a=["x", "x", None], b=["1", "", "1"], c=["c"] * 3)
    found = shape(rows, prompt={"key": ["a", "b"]}, completions={"c": {"text": "c"}})
    assert found.completions["prompt"].to_list() == ["x/1"]
    assert found.refused.select("row", "outcome").rows() == [(2, "unknown_prompt"), (3, "unknown_prompt")]


def test_keys_of_different_parts_are_different() -> None:
    parts = ["".join(part) for length in (1, 2, 3) for part in product("/\\", repeat=length)]
    pairs = list(product(parts, parts))
    rows = columns(q=["x"] * len(pairs), a=[a for a, _ in pairs], b=[b for _, b in pairs])
    assert shape(rows, prompt={"text": "q", "key": ["a", "b"]}).prompts["key"].n_unique() == len(pairs)


def test_key_is_the_same_from_any_kind_of_file() -> None:
    keys = [
        shape(rows, prompt={"text": "q", "key": "id"}).prompts["key"].to_list()
        for rows in (
            lines({"q": "x", "id": 7}, {"q": "x", "id": 8.0}),
            lines({"q": "x", "id": "7"}, {"q": "x", "id": "8"}),
            columns(q=["x", "x"], id=pl.Series([7, 8], dtype=pl.Int8)),
            columns(q=["x", "x"], id=pl.Series([7, 8], dtype=pl.Float32)),
            columns(q=["x", "x"], id=pl.Series(["7", "8"], dtype=pl.Categorical)),
        )
    ]
    assert keys == [["7", "8"]] * 5


def test_row_without_its_prompts_key_is_refused_record_by_record() -> None:
    mapping = {
        "completions": {"c": {"text": "c"}},
        "scores": [{"score": ["s", "t"], "scorer": "=people"}],
    }
    rows = lines({"id": " ", "q": "x", "c": "y", "s": 1, "t": 2}, {"id": [1], "q": "x", "c": "y", "s": 1, "t": 2})
    found = shape(rows, prompt={"key": "id", "text": "q"}, **mapping)
    assert [(row, what, outcome) for row, what, outcome, _ in refusals(found)] == [
        (1, "prompts", "malformed"),
        (1, "completions", "unknown_prompt"),
        (1, "scores", "unknown_prompt"),
        (1, "scores", "unknown_prompt"),
        (2, "prompts", "malformed"),
        (2, "completions", "malformed"),
        (2, "scores", "malformed"),
        (2, "scores", "malformed"),
    ]
    assert "the prompt's key is missing" in found.refused["detail"][1]
    assert found.prompts.is_empty()
    assert found.scores.is_empty()


def test_completions_of_a_row_are_told_by_slot_in_the_order_of_the_file() -> None:
    rows = lines(
        {"id": 1, "x": "one", "y": USER, "m": "gpt-4", "v": 0},
        {"id": 2, "x": None, "y": "", "m": " ", "v": 1},
    )
    completions = {"first": {"text": "x", "model": "m", "key": ["m", "v"]}, "second": {"text": "y"}}
    found = shape(rows, prompt={"key": "id"}, completions=completions)
    assert found.completions.select("row", "prompt", "slot", "key", "model", "kind", "text").rows() == [
        (1, "1", "first", "gpt-4/0", "gpt-4", "string", "one"),
        (1, "1", "second", None, None, "list", '[{"content":"hi","role":"user"}]'),
        (2, "2", "first", None, None, None, None),
        (2, "2", "second", None, None, "string", ""),
    ]
    assert found.refused.is_empty()


def test_model_that_is_no_name_is_malformed() -> None:
    found = shape(
        lines({"id": 1, "c": "x", "m": ["a"]}), prompt={"key": "id"}, completions={"c": {"text": "c", "model": "m"}}
    )
    assert refusals(found) == [(1, "completions", "malformed", "the model is of kind list, expected text or a number")]


def test_completions_key_that_is_no_name_is_malformed() -> None:
    rows = lines({"id": 1, "c": "x", "nr": {}})
    found = shape(rows, prompt={"key": "id"}, completions={"c": {"text": "c", "key": "nr"}})
    detail = "the completion's key is of kind object, expected text or a number"
    assert refusals(found) == [(1, "completions", "malformed", detail)]


def test_score_is_about_a_slot_if_one_has_the_name_else_about_a_key() -> None:
    rows = lines({"id": 1, "c": "x", "m": "gpt-4", "v": 2, "s": 3})
    mapping = {"prompt": {"key": "id"}, "completions": {"m": {"text": "c"}}}
    for of, reference in {
        None: ("m", None),
        "m": ("m", None),
        "v": (None, "2"),
        ("m", "v"): (None, "gpt-4/2"),
        "=gpt-3": (None, "gpt-3"),
    }.items():
        found = shape(rows, **mapping, scores=[{"of": of, "score": "s", "scorer": "=people"}])
        (told,) = found.scores["completion"].to_list()
        assert (told["slot"], told["key"]) == reference


def test_score_without_its_completions_key_is_about_none() -> None:
    rows = lines({"id": 1, "m": None, "s": 3}, {"id": 1, "m": "", "s": None})
    found = shape(rows, prompt={"key": "id"}, scores=[{"of": "m", "score": "s", "scorer": "=people"}])
    assert refusals(found) == [
        (1, "scores", "missing_completion", "the completion's key (m) is missing"),
        (2, "scores", "unrated", None),
    ]


def test_comparison_needs_both_its_completions_keys() -> None:
    rows = lines({"id": 1, "a": "x", "b": None, "p": 1}, {"id": 1, "a": None, "b": "y", "p": 1})
    found = shape(rows, prompt={"key": "id"}, comparisons=[{"preference": "p", "scorer": "=w"}])
    assert refusals(found) == [
        (1, "comparisons", "missing_completion", "the completion's key (b) is missing"),
        (2, "comparisons", "missing_completion", "the completion's key (a) is missing"),
    ]


def test_seen_text_is_kept_where_there_is_one() -> None:
    rows = lines(*({"id": 1, "m": "g", "s": 3, "t": text} for text in ("cut", "", None, [])))
    found = shape(rows, prompt={"key": "id"}, scores=[{"of": "m", "score": "s", "scorer": "=people", "seen": "t"}])
    assert [told["seen"] for told in found.scores["completion"]] == ["cut", "", None]
    assert [told[:3] for told in refusals(found)] == [(4, "scores", "unsupported_content")]


def test_several_score_columns_are_aspects_with_their_names() -> None:
    rows = lines({"id": 1, "m": "g", "help": 4, "truth": 5}, {"id": 2, "m": "g", "help": None, "truth": 1})
    scores = [{"of": "m", "score": ["help", "truth"], "scorer": "=people"}]
    found = shape(rows, prompt={"key": "id"}, scores=scores)
    assert found.scores.select("row", "aspect", "score").rows() == [(1, "help", 4), (1, "truth", 5), (2, "truth", 1)]
    assert refusals(found) == [(2, "scores", "unrated", None)]


def test_scorer_aspect_and_rationale_may_differ_by_row() -> None:
    rows = lines(
        {"id": 1, "m": "g", "s": 1, "who": "w1", "of": "help", "why": "clear"},
        {"id": 1, "m": "g", "s": 1, "who": 2, "of": None, "why": {"b": 1, "a": []}},
        {"id": 1, "m": "g", "s": 1, "who": " ", "of": "help", "why": None},
        {"id": 1, "m": "g", "s": 1, "who": "w1", "of": {}, "why": None},
    )
    scores = [{"of": "m", "score": "s", "scorer": "who", "aspect": "of", "rationale": "why"}]
    found = shape(rows, prompt={"key": "id"}, scores=scores)
    assert found.scores.select("scorer", "aspect", "rationale").rows() == [
        ("w1", "help", "clear"),
        ("2", "overall", '{"a":[],"b":1}'),
    ]
    assert refusals(found) == [
        (3, "scores", "malformed", "the scorer is missing"),
        (4, "scores", "malformed", "the aspect is of kind object, expected text or a number"),
    ]


@pytest.mark.parametrize(
    ("cell", "repeat"), [(0, 0), (3.0, 3), (" 7 ", 7), ("2.0", 2), (None, None), ("", None), (2**31 - 1, 2**31 - 1)]
)
def test_repeat_is_a_whole_number_or_will_be_counted(cell: Json, repeat: int | None) -> None:
    found = shape(
        lines({"id": 1, "m": "g", "s": 1, "n": cell}),
        prompt={"key": "id"},
        scores=[{"of": "m", "score": "s", "scorer": "=w", "repeat": "n"}],
    )
    assert found.scores["repeat"].to_list() == [repeat]


@pytest.mark.parametrize("cell", [-1, 0.5, "x", "nan", 2**31, 1e300, True, [1], "1st"])
def test_repeat_that_is_no_count_is_malformed(cell: Json) -> None:
    found = shape(
        lines({"id": 1, "m": "g", "s": 1, "n": cell}),
        prompt={"key": "id"},
        scores=[{"of": "m", "score": "s", "scorer": "=w", "repeat": "n"}],
    )
    assert [told[:3] for told in refusals(found)] == [(1, "scores", "malformed")]


def test_order_shown_is_ab_ba_or_unknown() -> None:
    rows = lines(*({"id": 1, "a": "x", "b": "y", "p": 1, "o": o} for o in ("ab", " ba", None, "unknown", "", "AB", 1)))
    found = shape(rows, prompt={"key": "id"}, comparisons=[{"preference": "p", "scorer": "=w", "order": "o"}])
    assert found.comparisons["order"].to_list() == ["ab", "ba", "unknown", "unknown", "unknown"]
    assert refusals(found) == [
        (6, "comparisons", "malformed", "the order is AB, expected ab or ba"),
        (7, "comparisons", "malformed", "the order is 1, expected ab or ba"),
    ]


def test_comparison_may_mix_a_completion_of_the_row_with_one_known_by_key() -> None:
    rows = lines({"id": 1, "c": "x", "base": "gpt-3", "p": 1, "saw": "the text"})
    found = shape(
        rows,
        prompt={"key": "id"},
        completions={"mine": {"text": "c"}},
        comparisons=[{"a": "mine", "b": "base", "b_seen": "saw", "preference": "p", "scorer": "=w"}],
    )
    assert found.comparisons.select("a", "b").row(0) == (
        {"slot": "mine", "key": None, "seen": None},
        {"slot": None, "key": "gpt-3", "seen": "the text"},
    )


@pytest.mark.parametrize(
    ("mapping", "what"),
    [
        ({"prompt": {"text": "q"}, "completions": {"c": {"text": "c"}}}, "prompts"),
        ({"prompt": {"key": "q"}, "completions": {"c": {"text": "c"}}}, "completions"),
        ({"prompt": {"key": "q"}, "scores": [{"of": "c", "score": "q", "scorer": "=w"}]}, "scores"),
        (
            {
                "prompt": {"key": "q"},
                "completions": {"c": {"text": "c"}},
                "comparisons": [{"a": "c", "b": "q", "preference": "q", "scorer": "=w"}],
            },
            "comparisons",
        ),
    ],
)
def test_row_that_was_not_read_is_refused_once_as_the_tables_main_kind(mapping: dict[str, object], what: str) -> None:
    found = shape(lines({"q": "1", "c": "2"}, "{broken"), **mapping)
    assert [told[:3] for told in refusals(found)] == [(2, what, "malformed")]


def test_column_that_is_missing_is_told_with_the_one_that_may_be_meant() -> None:
    rows = lines({"question": "x", "answers": "y", "model": "m"})
    for mapping, line in (
        ({"prompt": {"text": "qestion"}}, "column 'qestion' is not in t.jsonl; did you mean 'question'?"),
        ({"prompt": {"text": "zzz"}}, "column 'zzz' is not in t.jsonl, got question, answers, model"),
        ({"prompt": {"text": "question", "metadata": ["=x"]}}, "column '=x' is not in t.jsonl"),
        (
            {
                "prompt": {"text": "question"},
                "completions": {"reply": {"text": "answers"}},
                "scores": [{"of": "replay", "score": "=1", "scorer": "=w"}],
            },
            "column 'replay' is not in t.jsonl; did you mean 'reply'?",
        ),
    ):
        with pytest.raises(SourceError) as refused:
            shape(rows, **mapping)
        assert str(refused.value).startswith(line)


def test_file_without_a_readable_row_is_an_error() -> None:
    with pytest.raises(SourceError, match=r"none of its 2 rows can be read \(row 1: "):
        shape(lines("{broken", "[]"), prompt={"text": "q"})


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", " ", "A", "B", "Tie", "nan", "inf", "4", " 4.0 ", "1e999", "ab", "=x", "\u00a0", "0x1"])
    | st.text(st.characters(codec="utf-8"), max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=2),
    max_leaves=3,
)  # fmt: skip
EVERYTHING = {
    "completions": {
        "x": {"text": "c0", "model": "c1", "key": ["c1", "c2"]},
        "y": {"text": "c3"},
    },
    "scores": [
        {"of": "x", "score": ["c4", "c5"], "scorer": "c6", "repeat": "c7", "rationale": "c8", "missing": "unparsable"},
        {"of": "c1", "score": "c4", "scorer": "=w", "aspect": "c2", "seen": "c3", "values": {"A": 1, "Tie": "unrated"}},
    ],
    "comparisons": [
        {"a": "x", "b": ["c1", "c2"], "preference": "c5", "scorer": "c6", "order": "c7", "b_seen": "c0"},
        {"a": "x", "b": "y", "preference": "c6", "scorer": "=w", "scale": [5, 1], "values": {"A": "a", "4": "tie"}},
    ],
}
PROMPT_FIELDS = {"text": ["c0", "c1"], "answer": "c2", "source": "c3", "split": "c4", "metadata": ["c5", "c6"]}


@settings(max_examples=40)
@given(st.lists(st.lists(JUNK, min_size=9, max_size=9), min_size=1, max_size=6), st.booleans())
def test_any_cells_give_every_record_once_in_a_frame_or_refused(table: list[list[Json]], keyed: bool) -> None:
    rows = lines(*({f"c{i}": cell for i, cell in enumerate(row)} for row in table))
    prompt = PROMPT_FIELDS | ({"key": "c8"} if keyed else {})
    found = shape(rows, prompt=prompt, **EVERYTHING)
    frames = {
        "prompts": (found.prompts, PROMPTS, 1),
        "completions": (found.completions, COMPLETIONS, 2),
        "scores": (found.scores, SCORES, 3),
        "comparisons": (found.comparisons, COMPARISONS, 2),
    }
    assert dict(found.refused.schema) == REFUSED
    for what, (frame, schema, each) in frames.items():
        assert dict(frame.schema) == schema
        ends = pl.concat([frame["row"], found.refused.filter(pl.col("what") == what)["row"]])
        assert ends.value_counts(sort=True)["count"].to_list() == [each] * len(table)
    for number in (found.scores["score"], found.comparisons["preference"]):
        assert number.drop_nulls().is_finite().all()
    assert found.comparisons["preference"].drop_nulls().is_between(0, 1).all()
    for said, number in ((found.scores, "score"), (found.comparisons, "preference")):
        assert said.filter(pl.col(number).is_null() == pl.col("failure").is_null()).is_empty()
        assert said["scorer"].null_count() == said["aspect"].null_count() == said["prompt"].null_count() == 0
