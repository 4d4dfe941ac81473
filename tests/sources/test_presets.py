import json

import pytest

from prefkit.errors import PrefkitError, RecipeError, SourceError
from prefkit.identity import Json
from prefkit.sources.config import TableConfig
from prefkit.sources.json_lines import read_json_lines
from prefkit.sources.presets import FIELDS, KINDS, preset
from prefkit.sources.shaped import Shaped
from prefkit.sources.shaping import shaped


def written(**table: object) -> TableConfig:
    """What `import.yaml` would say."""
    return TableConfig.model_validate({"path": "p.jsonl", **table})


def flat(kind: str, columns: str, *pairs: str) -> TableConfig:
    mapping = dict(pair.split("=", 1) for pair in pairs)
    return preset(kind, mapping, "p.jsonl", columns.split(), "votes")


def told(kind: str, columns: str, *pairs: str) -> tuple[type[PrefkitError], str]:
    with pytest.raises(PrefkitError) as refused:
        flat(kind, columns, *pairs)
    assert "\n" not in str(refused.value)
    return refused.type, str(refused.value)


def read(kind: str, record: dict[str, Json], *pairs: str) -> Shaped:
    return shaped(read_json_lines(json.dumps(record).encode(), "p.jsonl"), flat(kind, " ".join(record), *pairs))


def test_prompts_take_the_columns_with_our_names_and_the_mapped_ones() -> None:
    assert flat(
        "prompts", "question input id split other", "prompt=question,input", "key=id", "metadata=other,id"
    ) == written(prompt={"text": ["question", "input"], "key": "id", "split": "split", "metadata": ["other", "id"]})


def test_column_with_a_comma_in_its_name_is_one_column() -> None:
    mapping = {"prompt": "a,b"}
    assert preset("prompts", mapping, "p.jsonl", ["a,b", "a"], "votes") == written(prompt={"text": "a,b"})


def test_completions_are_known_by_model_and_key() -> None:
    assert flat("completions", "prompt completion model answer nr", "completion_key=model,nr") == written(
        prompt={"text": "prompt", "answer": "answer"},
        completions={"completion": {"text": "completion", "model": "model", "key": ["model", "nr"]}},
    )


def test_prompt_known_by_key_alone_takes_nothing_beside_it() -> None:
    assert flat("completions", "key completion answer split source") == written(
        prompt={"key": "key"}, completions={"completion": {"text": "completion"}}
    )


def test_scores_are_about_the_completion_of_the_row_or_one_that_is_named() -> None:
    prompt = {"key": "key"}
    score = {"score": "score", "scorer": "=votes"}
    for columns, more in {
        "key score completion model": {
            "completions": {"completion": {"text": "completion", "model": "model"}},
            "scores": [score | {"of": "completion"}],
        },
        "key score model": {"scores": [score | {"of": "model"}]},
        "key score model completion_key": {"scores": [score | {"of": "completion_key"}]},
    }.items():
        assert flat("scores", columns) == written(prompt=prompt, **more)


def test_several_score_columns_are_aspects() -> None:
    columns = "key model helpful honest aspect who"
    assert flat("scores", columns, "score=helpful,honest", "scorer=who") == written(
        prompt={"key": "key"}, scores=[{"of": "model", "score": ["helpful", "honest"], "scorer": "who"}]
    )


def test_comparisons_hold_completions_or_name_them() -> None:
    columns = "prompt completion_a model_a model_b preference order rationale repeat"
    assert flat("comparisons", columns, "scorer==gpt-4", "aspect==style") == written(
        prompt={"text": "prompt"},
        completions={"a": {"text": "completion_a", "model": "model_a"}},
        comparisons=[
            {
                "a": "a", "b": "model_b", "preference": "preference", "order": "order", "rationale": "rationale",
                "repeat": "repeat", "scorer": "=gpt-4", "aspect": "=style",
            }
        ],
    )  # fmt: skip


def test_preferences_are_pairs_with_the_scores_they_have() -> None:
    record: dict[str, Json] = {"prompt": "1+1?", "chosen": "2", "rejected": "3", "s": 5, "chosen_model": "gpt-4"}
    found = read("preferences", record, "chosen_score=s")
    assert found.completions.select("slot", "model", "text").rows() == [
        ("chosen", "gpt-4", "2"),
        ("rejected", None, "3"),
    ]
    (comparison,) = found.comparisons.to_dicts()
    assert (comparison["a"]["slot"], comparison["b"]["slot"]) == ("chosen", "rejected")
    assert (comparison["preference"], comparison["scorer"]) == (1.0, "votes")
    (score,) = found.scores.to_dicts()
    assert (score["completion"]["slot"], score["score"], score["scorer"]) == ("chosen", 5.0, "votes")


@pytest.mark.parametrize(
    ("kind", "columns", "line"),
    [
        (
            "prompts",
            "key q",
            "p.jsonl has no column 'prompt', got key, q: say which one it is, as in `--map prompt=key`",
        ),
        ("completions", "prompt text", "p.jsonl has no column 'completion', got prompt, text: say which one it is"),
        ("completions", "completion text", "p.jsonl has no column 'prompt' or 'key', got completion, text: say which"),
        ("scores", "prompt model", "p.jsonl has no column 'score', got"),
        ("scores", "prompt score", "p.jsonl has no column 'completion' or 'completion_key' or 'model', got"),
        (
            "comparisons",
            "prompt preference model_a",
            "p.jsonl has no column 'completion_b' or 'key_b' or 'model_b', got",
        ),
        ("preferences", "prompt chosen", "p.jsonl has no column 'rejected', got"),
        ("preferences", "key chosen rejected", "p.jsonl has no column 'prompt', got"),
    ],
)
def test_column_that_the_kind_needs_is_told(kind: str, columns: str, line: str) -> None:
    error, message = told(kind, columns)
    assert error is SourceError
    assert message.startswith(line)


@pytest.mark.parametrize(
    ("kind", "pairs", "line"),
    [
        ("pairs", (), "--as got 'pairs', expected one of prompts, completions, scores, comparisons, preferences"),
        ("score", (), "--as got 'score', expected one of prompts, completions, scores, comparisons, preferences; did"),
        ("preferences", ("chosn=c",), "--map names 'chosn', expected one of prompt, chosen, rejected, "),
        ("prompts", ("completion=c",), "--map names 'completion', expected one of prompt, key, answer, "),
        ("completions", ("key=k", "completion=c", "answer=a"), "p.jsonl: prompt: got `answer` without `text`"),
        ("scores", ("key=k", "model=m", "score=a,a"), "p.jsonl: scores.0: score is a, a, expected different columns"),
        ("scores", ("key=k", "model=m", "score=a,b", "aspect=x"), "p.jsonl: scores.0: got `aspect` and a list"),
    ],
)  # fmt: skip
def test_mapping_that_cannot_be_obeyed_is_told(kind: str, pairs: tuple[str, ...], line: str) -> None:
    error, message = told(kind, "k c a b m x", *pairs)
    assert error is RecipeError
    assert message.startswith(line)


@pytest.mark.parametrize("kind", KINDS)
def test_file_with_every_column_of_its_kind_is_read_whole(kind: str) -> None:
    usual: dict[str, Json] = {
        "order": "ab",
        "repeat": 0,
        "preference": 1,
        "score": 3,
        "chosen_score": 2,
        "rejected_score": 1,
    }
    found = read(kind, {field: usual.get(field, field) for field in FIELDS[kind]})
    assert found.refused.is_empty()
    assert len(found.prompts) == 1
    assert len(found.completions) == {"prompts": 0, "completions": 1, "scores": 1}.get(kind, 2)
    assert len(found.scores) == {"scores": 1, "preferences": 2}.get(kind, 0)
    assert len(found.comparisons) == {"comparisons": 1, "preferences": 1}.get(kind, 0)
