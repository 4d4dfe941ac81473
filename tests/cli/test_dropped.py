"""Rows of imported facts that a version dropped, as `show --outcome` and `ledger --outcome` list them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefkit.cli import main
from prefkit.store.workspace import Workspace
from tests.pipeline.tracing.rated import COLOUR, NUMBER, build_words, comparison_ids, completion_id, rated_workspace

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """v1 is of what anybody compared, without dan's texts; v2 of eve's scores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PREFKIT_WORKSPACE", raising=False)
        made = tmp_path_factory.mktemp("words")
        workspace = rated_workspace(made)
        anybody = {"kind": "imported", "scorer": "*", "name": "all"}
        build_words(workspace, score=[anybody], completions={"exclude": ["dan"]})
        build_words(workspace, select={"kind": "best_vs_worst"})
        yield made


def listed(capsys: Captured, folder: Path, label: str, outcome: str, *more: str) -> list[dict[str, object]]:
    capsys.readouterr()
    assert main(["show", label, "--outcome", outcome, "--workspace", str(folder), "--json", *more]) == 0
    return json.loads(capsys.readouterr().out)["rows"]


def text(content: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": content}]


def test_completions_of_other_models_are_listed_with_their_texts(folder: Path, capsys: Captured) -> None:
    (row,) = listed(capsys, folder, "words@v1", "other_model")
    assert (row["stage"], row["completion"]) == ("imported completions", text("green"))
    assert row["prompt"] == [{"role": "user", "content": COLOUR}]


def test_comparisons_are_listed_with_both_sides(folder: Path, capsys: Captured) -> None:
    (row,) = listed(capsys, folder, "words@v1", "dropped_completion")
    assert (row["stage"], row["detail"], row["raw"]) == ("imported comparisons", "all", "0.5")
    assert sorted(side["content"] for name in ("first", "second") for side in row[name]) == ["blue", "green"]  # type: ignore[attr-defined]


def test_ratings_without_a_value_are_listed_with_what_stood_there(folder: Path, capsys: Captured) -> None:
    (compared,) = listed(capsys, folder, "words@v1", "unparsable", "--stage", "imported comparisons")
    assert (compared["raw"], compared["prompt"]) == ("???", [{"role": "user", "content": NUMBER}])
    (scored,) = listed(capsys, folder, "words@v2", "unparsable", "--stage", "imported scores")
    assert (scored["raw"], scored["completion"]) == ("no idea", text("one"))


def test_records_refused_at_import_name_file_row_and_stage(folder: Path, capsys: Captured) -> None:
    (prompt,) = listed(capsys, folder, "words@v1", "missing_prompt")
    assert (prompt["stage"], str(prompt["detail"])[:20]) == ("import", "prompts.jsonl, row 3")
    (score,) = listed(capsys, folder, "words@v1", "missing_completion")
    assert score["stage"] == "import scores"
    assert "scored.jsonl, row 5" in str(score["detail"])
    assert "zoe" in str(score["detail"])


def test_as_many_rows_as_are_asked_for_are_listed(folder: Path, capsys: Captured) -> None:
    assert len(listed(capsys, folder, "words@v1", "unparsable", "-n", "9")) == 3
    assert len(listed(capsys, folder, "words@v1", "unparsable", "-n", "2")) == 2


def test_ledger_tells_dropped_comparisons_below_the_accounts(folder: Path, capsys: Captured) -> None:
    workspace = Workspace.open(folder)
    same = comparison_ids(workspace, *(completion_id(workspace, COLOUR, model) for model in ("ann", "cyd")))
    assert main(["ledger", "words@v1", "--outcome", "same_text", "--show", "5", "--workspace", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (about,) = (line for line in lines if line.startswith("imported comparisons: same_text"))
    assert f"id {same[0][:12]}" in about
    assert [line.split() for line in lines if "red" in line] == [["first:", "red"], ["second:", "red"]]
