"""`prefkit import`: what it brings, shows, and refuses."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from prefkit.cli import main
from prefkit.identity import Json
from prefkit.records import COMPARISONS, COMPLETIONS
from prefkit.store.workspace import Workspace

Captured = pytest.CaptureFixture[str]

QUESTIONS = [{"qid": 1, "question": "Why?"}, {"qid": 2, "question": "How?"}]
ANSWERS = [
    {"qid": 1, "bot": "A", "reply": "Because."},
    {"qid": 1, "bot": "B", "reply": "\x1b[31mDunno"},
    {"qid": 2, "bot": "A", "reply": "Like so."},
    {"qid": 3, "bot": "A", "reply": "lost"},
]
VERDICTS = [
    {"qid": 1, "first": "A", "second": "B", "verdict": "first", "judge": "eve"},
    {"qid": 1, "first": "B", "second": "A", "verdict": "neither", "judge": "eve"},
    {"qid": 2, "first": "A", "second": "B", "verdict": "first", "judge": "eve"},
    {"qid": 1, "first": "A", "second": "B", "verdict": "???", "judge": "eve"},
]
PAIRS = [{"prompt": "Why?", "chosen": "Because.", "rejected": "No."}]
IMPORT = """\
name: talk
tables:
  - path: questions.jsonl
    prompt: {text: question, key: qid}
  - path: answers.jsonl
    prompt: {key: qid}
    completions: {reply: {text: reply, model: bot}}
  - path: verdicts.jsonl
    prompt: {key: qid}
    comparisons:
      - {a: first, b: second, preference: verdict, scorer: judge, values: {first: a, second: b, neither: tie}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace beside the files, which is also the working folder."""
    monkeypatch.chdir(tmp_path)
    Workspace.create(tmp_path)
    files: dict[str, Sequence[Json]] = {
        "questions": QUESTIONS, "answers": ANSWERS, "verdicts": VERDICTS, "pairs": PAIRS,
    }  # fmt: skip
    for name, rows in files.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "import.yaml").write_text(IMPORT)
    return tmp_path


QUESTION = ("import", "questions.jsonl", "--as", "prompts", "--map", "prompt=question", "--key", "qid")
ANSWER = ("import", "answers.jsonl", "--as", "completions", "--map", "completion=reply", "--map", "model=bot")
ANSWER_TO = (*ANSWER, "--key", "qid", "--prompts-from", "questions")


def told(capsys: Captured, *arguments: str) -> str:
    code = main(arguments)
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def refused(capsys: Captured, *arguments: str) -> str:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_import_tells_every_kind_of_record_with_its_outcomes(folder: Path, capsys: Captured) -> None:
    assert told(capsys, "import", "import.yaml").splitlines() == [
        "talk",
        "  prompts     2: 2 imported",
        "  completions 4: 3 imported, 1 unknown_prompt",
        "  comparisons 4: 1 imported, 1 draw, 1 missing_completion, 1 unparsable",
        "new: 2 prompts, 2 tasks, 3 completions, 3 comparisons",
    ]


def test_import_of_unchanged_files_says_so(folder: Path, capsys: Captured) -> None:
    first = told(capsys, "import", "import.yaml", "--json")
    again = told(capsys, "import", "import.yaml", "--json")
    assert json.loads(again) == json.loads(first) | {"changed": False, "new": {}}
    assert told(capsys, "import", "import.yaml").splitlines()[-1] == "unchanged"


def test_related_files_are_joined_by_keys_from_the_command_line(folder: Path, capsys: Captured) -> None:
    told(capsys, *QUESTION)
    out = told(capsys, *ANSWER_TO)
    assert out.splitlines()[:2] == [
        "answers, about the prompts of questions",
        "  completions 4: 3 imported, 1 unknown_prompt",
    ]
    facts = Workspace.open(folder).facts
    assert sorted(facts.read(COMPLETIONS, ["policy_id"])["policy_id"]) == ["imported:A", "imported:A", "imported:B"]


def test_finished_pairs_prefer_the_chosen_side(folder: Path, capsys: Captured) -> None:
    told(capsys, "import", "pairs.jsonl", "--as", "preferences")
    facts = Workspace.open(folder).facts
    (pair,) = facts.read(COMPARISONS, ["completion_a", "completion_b", "preference"]).to_dicts()
    winner = pair["completion_a" if pair["preference"] == 1 else "completion_b"]
    (text,) = facts.read(COMPLETIONS, ["completion"], {"id": winner})["completion"].to_list()
    assert text == [{"role": "assistant", "content": "Because."}]


def test_adapter_reads_a_known_shape(folder: Path, capsys: Captured) -> None:
    out = json.loads(told(capsys, "import", "pairs.jsonl", "--adapter", "trl", "--json"))
    assert out["outcomes"]["comparisons"] == {"imported": 1}


def test_preview_shows_records_of_each_kind_and_all_that_is_refused(folder: Path, capsys: Captured) -> None:
    heads = Workspace.open(folder).facts.heads()
    out = told(capsys, "import", "import.yaml", "--preview", "1")
    assert out.splitlines()[0] == "talk; nothing was imported"
    for line in ("prompt:      Why?", "completion:  Because.", "model:       A", "preference:  ", "scorer:      eve"):
        assert f"  {line}" in out
    assert "1 completion unknown_prompt\n  row 4 of answers.jsonl: the prompt 3 was not imported" in out
    assert "1 comparison missing_completion\n  row 3 of verdicts.jsonl: the prompt has no completion B" in out
    assert "How?" not in out
    assert Workspace.open(folder).facts.heads() == heads


def test_preview_shows_texts_of_the_source_it_refers_to(folder: Path, capsys: Captured) -> None:
    told(capsys, *QUESTION)
    told(capsys, *ANSWER_TO)
    verdicts = ("import", "verdicts.jsonl", "--as", "comparisons", "--key", "qid", "--prompts-from", "answers")
    names = ("model_a=first", "model_b=second", "preference==1", "scorer=judge")
    mapping = [part for name in names for part in ("--map", name)]
    shown = json.loads(told(capsys, *verdicts, *mapping, "--preview", "2", "--json"))
    comparison = shown["comparisons"][0]
    sides = {comparison["model_a"]: comparison["a"], comparison["model_b"]: comparison["b"]}
    assert {model: side[0]["content"] for model, side in sides.items()} == {"A": "Because.", "B": "\x1b[31mDunno"}
    assert comparison["prompt"] == [{"role": "user", "content": "Why?"}]
    missing = {"table": "verdicts.jsonl", "row": 3, "detail": "the prompt has no completion B"}
    assert shown["refused"][0] == {
        "what": "comparisons", "outcome": "missing_completion", "records": 1, "rows": [missing],
    }  # fmt: skip


def test_preview_of_text_that_would_control_the_terminal_writes_it_out(folder: Path, capsys: Captured) -> None:
    out = told(capsys, "import", "import.yaml", "--preview", "2")
    assert "\\x1b[31mDunno" in out
    assert "\x1b" not in out


def test_preview_of_a_file_on_its_own_needs_no_workspace(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    out = told(capsys, "import", str(folder / "pairs.jsonl"), "--as", "preferences", "--preview", "1")
    assert "1 imported" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("questions.jsonl",), ("neither --as nor --adapter", "preferences", "ultrafeedback")),
        (("questions.jsonl", "--as", "promts"), ("'promts'", "did you mean 'prompts'")),
        (("questions.jsonl", "--as", "prompts", "--adapter", "trl"), ("--as does not go with --adapter",)),
        (("questions.jsonl", "--adapter", "tlr"), ("'tlr'", "did you mean 'trl'")),
        (("import.yaml", "--as", "prompts"), ("--as does not go with import.yaml",)),
        (("import.yaml", "--prompts-from", "x"), ("--prompts-from does not go with import.yaml",)),
        (QUESTION[1:4], ("questions.jsonl has no column 'prompt'", "--map prompt=qid")),
        ((*QUESTION[1:], "--map", "key=qid"), ("names 'key' twice",)),
        ((*QUESTION[1:], "--map", "answer"), ("'answer'", "OURS=THEIRS")),
        ((*QUESTION[1:], "--name", "my questions"), ("'my questions'", "--name")),
        ((*QUESTION[1:], "--prompts-from", "others"), ("'others' was never imported",)),
        (("nothing.jsonl", "--as", "prompts"), ("nothing.jsonl does not exist",)),
        (("nothing.yaml",), ("nothing.yaml",)),
        (ANSWER[1:], ("answers.jsonl has no column 'prompt' or 'key'",)),
        (("questions.jsonl", "--as", "prompts", "--preview", "0"), ("preview",)),
    ],
)  # fmt: skip
def test_import_that_cannot_be_obeyed_says_why_in_one_line(
    folder: Path, capsys: Captured, arguments: Sequence[str], says: Sequence[str]
) -> None:
    err = refused(capsys, "import", *arguments)
    for words in says:
        assert words in err
