"""What `prefkit doctor` prints, and how it exits."""

import json
from pathlib import Path

import pytest

from prefkit.cli import main
from tests.cli.projects import files_below


def add_row(folder: Path, **row: object) -> None:
    with (folder / "problems.jsonl").open("a") as file:
        file.write("\n" + json.dumps(row))


def test_doctor_of_a_sound_recipe_finds_nothing_and_exits_0(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_below(project)
    assert main(["doctor", "recipe.yaml"]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert told.out.splitlines()[-1].endswith("nothing found")
    assert files_below(project) == before


def test_doctor_needs_no_workspace(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "recipe.yaml"]) == 0
    assert "checked 12 prompts and 0 completions" in capsys.readouterr().out
    assert not (bare / ".prefkit").exists()


def test_doctor_tells_one_line_a_finding_worst_first_and_exits_1_on_errors(
    bare: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_row(bare, question="WHAT IS 1 + 8?", answer=9)
    add_row(bare, question="What is 3 + 10?", answer=14)
    assert main(["doctor", "recipe.yaml", "--set", "split.test=0"]) == 0
    conflict, repeat, summary = capsys.readouterr().out.splitlines()
    assert conflict.startswith("warning: conflicting answers: 2 rows")
    assert repeat.startswith("warning: near duplicates: 1 of 12 prompts")
    assert summary.endswith("2 warnings")
    assert main(["doctor", "recipe.yaml", "--set", "prompts.path=problms.jsonl"]) == 1
    error, summary = capsys.readouterr().out.splitlines()
    assert error.startswith("error: recipe: ")
    assert summary.endswith("1 error")


def test_doctor_json_holds_every_finding_with_its_rows(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_row(bare, question="What is 3 + 10?", answer=14)
    assert main(["doctor", "recipe.yaml", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["counts"] == {"error": 0, "warning": 1, "note": 0}
    [finding] = told["findings"]
    assert (finding["check"], finding["severity"], finding["rows"]) == ("conflicting answers", "warning", 2)
    assert "What is 3 + 10?" in finding["message"]


def test_doctor_writes_out_what_would_control_the_terminal(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_row(bare, question="\x1b[31mred", answer=1)
    add_row(bare, question="\x1b[31mred", answer=2)
    main(["doctor", "recipe.yaml"])
    assert "\x1b" not in capsys.readouterr().out


def test_doctor_of_a_named_workspace_that_is_not_there_is_told(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "recipe.yaml", "--workspace", str(bare / "nowhere")]) == 2
    assert "holds no workspace" in capsys.readouterr().err
