from pathlib import Path

import pytest

from prefkit.errors import RecipeError
from prefkit.sources.config import ImportConfig
from prefkit.sources.import_file import load_import

GOOD = """\
name: arena
tables:
  - path: prompts.csv
    prompt: {text: [question, input], key: id}
    completions:
      answer: {text: answer, model: model}
  - path: votes.jsonl
    join: {path: more/pairs.jsonl, on: pair_id}
    prompt: {key: id}
    comparisons:
      - {a: left, b: right, scorer: =crowd, preference: vote, values: {yes: a, no: b, "0": tie}}
"""


def load(folder: Path, text: str) -> ImportConfig:
    path = folder / "import.yaml"
    path.write_text(text)
    return load_import(path)


def told(folder: Path, text: str) -> str:
    """The one line that refuses an import file, behind its path."""
    with pytest.raises(RecipeError) as refused:
        load(folder, text)
    line = str(refused.value)
    assert "\n" not in line
    return line.removeprefix(str(folder / "import.yaml")).removeprefix(": ").removeprefix(" ")


def test_import_file_is_what_it_says_with_paths_from_its_folder(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD)
    first, second = config.tables
    assert [first.path, second.path] == [str(tmp_path / "prompts.csv"), str(tmp_path / "votes.jsonl")]
    assert second.join is not None
    assert (second.join.path, second.join.on) == (str(tmp_path / "more" / "pairs.jsonl"), "pair_id")
    assert first.prompt is not None
    assert first.prompt.text == ("question", "input")
    (votes,) = second.comparisons
    assert (votes.scorer, votes.values) == ("=crowd", {"yes": "a", "no": "b", "0": "tie"})


def test_path_from_the_root_stays_and_so_does_the_id_of_a_hub_dataset(tmp_path: Path) -> None:
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "folder").mkdir()
    for written, path in {
        "/data/p.jsonl": "/data/p.jsonl",
        "org/name": "org/name",
        "org/folder": str(tmp_path / "org" / "folder"),
        "data/p.jsonl": str(tmp_path / "data" / "p.jsonl"),
        "data/p.csv.gz": str(tmp_path / "data" / "p.csv.gz"),
        "../p.jsonl": str(tmp_path / ".." / "p.jsonl"),
    }.items():
        config = load(tmp_path, f"name: x\ntables: [{{path: {written}, prompt: {{text: q}}}}]")
        assert config.tables[0].path == path


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("name: arena", "nam: arena"), "nam is no key of an import; did you mean 'name'? (and 1 more mistake)"),
        (("name: arena", "name: a/b"), "name is 'a/b', expected text that matches "),
        (("text: answer, model", "text: answer, modle"), "tables.0.completions.answer.modle is no key of an import; "),
        (("text: answer, ", ""), "tables.0.completions.answer.text is missing: add it"),
        (("text: [question, input]", "text: [question, 3]"), "tables.0.prompt.text.1 is 3, expected a text: put it in"),
        (("text: [question, input]", "text: 3"), "tables.0.prompt.text is 3, expected a text: put it in quotes"),
        (("text: [question, input]", "text: []"), "tables.0.prompt.text is [], expected"),
        (("text: [question, input], key: id", "answer: id"), "tables.0.prompt: got neither `text` nor `key`"),
        (("text: [question, input], key", "answer: x, key"), "tables.0.prompt: got `answer` without `text`"),
        (("yes: a", "yes: c"), "tables.1.comparisons.0.values.yes is 'c', expected 'a', 'b', 'tie', "),
        (("yes: a", "yes: 2"), "tables.1.comparisons.0.values.yes is 2, expected"),
        (('"0": tie', "0: tie"), "a key in line 11 is no text, expected a name: put it in quotes"),
        (("scorer: =crowd, ", ""), "tables.1.comparisons.0.scorer is missing: add it"),
        (("preference: vote", "preference: vote, scale: [1, 1]"), "tables.1.comparisons.0: scale got 1.0 twice"),
        (("preference: vote", "preference: vote, scale: [1]"), "tables.1.comparisons.0.scale"),
        (("on: pair_id", "n: pair_id"), "tables.1.join.n is no key of an import"),
        (("    comparisons:", "    adapter: hh\n    comparisons:"), "tables.1: got the adapter 'hh' and a mapping"),
        (("    prompt: {key: id}\n", ""), "tables.1: got no `prompt`, expected one"),
    ],
)  # fmt: skip
def test_mistake_is_told_where_it_was_written(change: tuple[str, str], line: str, tmp_path: Path) -> None:
    assert change[0] in GOOD
    assert told(tmp_path, GOOD.replace(*change)).startswith(line)


TABLE = "name: x\ntables: [{{path: p.csv, prompt: {{key: id}}{more}}}]"


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ("", "tables.0: got nothing but a prompt's key"),
        (
            ", scores: [{score: s, scorer: =w}]",
            "tables.0: scores.0 has no `of`, expected one of the row's 0 completions",
        ),
        (
            ", completions: {a: {text: a}, b: {text: b}}, scores: [{score: s, scorer: =w}]",
            "tables.0: scores.0 has no `of`, expected one of the row's 2 completions",
        ),
        (", scores: [{of: m, score: [s, t], scorer: =w, aspect: =x}]", "tables.0.scores.0: got `aspect` and a list"),
        (", scores: [{of: m, score: [s, s], scorer: =w}]", "tables.0.scores.0: score is s, s, expected different"),
        (", scores: [{of: m, score: [s, =1], scorer: =w}]", "tables.0.scores.0: score is s, =1, expected different"),
        (", scores: {of: m, score: s, scorer: =w}", "tables.0.scores is {'of': 'm', "),
    ],
)
def test_table_that_does_not_say_what_its_rows_hold_is_refused(more: str, line: str, tmp_path: Path) -> None:
    assert told(tmp_path, TABLE.format(more=more)).startswith(line)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty, expected a mapping with name and tables"),
        ("[]", "is a list, expected a mapping with name and tables"),
        ("name: x", "tables is missing: add it"),
        ("name: x\ntables: []", "tables has no items"),
        ("name: x\nname: y", "'name' is given in lines 1 and 2"),
        ("a: [", "no valid YAML in line 1"),
        (GOOD + "token: open-sesame", "token holds a literal secret"),
    ],
)
def test_file_that_is_no_import_is_told_in_one_line(text: str, words: str, tmp_path: Path) -> None:
    assert words in told(tmp_path, text)


def test_file_that_is_not_there_is_told_with_the_one_that_may_be_meant(tmp_path: Path) -> None:
    (tmp_path / "import.yaml").touch()
    with pytest.raises(RecipeError, match=r"import .*imprt.yaml does not exist, .*did you mean 'import.yaml'\?"):
        load_import(tmp_path / "imprt.yaml")
