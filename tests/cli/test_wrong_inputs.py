"""Whatever is wrong with an input is told in one line, exits 2, and leaves the workspace whole."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pytest

from prefkit.cli import main
from prefkit.records import PROMPTS
from prefkit.store.workspace import Workspace
from tests.cli.projects import RECIPE

KEY = "sk-Tq8vX2mN4pLr7sYw9zKb"


@dataclass(frozen=True)
class Wrong:
    """A command that cannot be obeyed, what is written before it, and words of the line that says why."""

    command: str
    says: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)


def recipe(old: str, new: str) -> dict[str, str]:
    assert old in RECIPE
    return {"recipe.yaml": RECIPE.replace(old, new)}


BUILD = "build recipe.yaml"
SELECT = "select: {kind: correct_vs_incorrect}"
WRONG = {
    "recipe_missing": Wrong("build recpie.yaml", ("recpie.yaml", "did you mean 'recipe.yaml'")),
    "recipe_folder": Wrong("build .", ("is a folder",)),
    "recipe_empty": Wrong(BUILD, ("recipe.yaml is empty",), {"recipe.yaml": ""}),
    "recipe_list": Wrong(BUILD, ("is a list", "expected a mapping"), {"recipe.yaml": "- name"}),
    "recipe_bad_yaml": Wrong(BUILD, ("line 2, column",), {"recipe.yaml": "name: x\n]"}),
    "recipe_not_utf8": Wrong(BUILD, ("no valid YAML",), {"recipe.yaml": "name: \x07"}),
    "key_twice": Wrong(BUILD, ("'name' is given in lines 1 and 9",), {"recipe.yaml": RECIPE + "\nname: other\n"}),
    "key_unknown": Wrong(
        BUILD, ("select.per_promt", "did you mean 'per_prompt'"), recipe("incorrect}", "incorrect, per_promt: 2}")
    ),
    "block_unknown": Wrong(BUILD, ("hygeine", "did you mean 'hygiene'"), {"recipe.yaml": RECIPE + "hygeine: {}\n"}),
    "select_unknown": Wrong(
        BUILD, ("select.kind is 'best_vs_wrost'", "did you mean 'best_vs_worst'"),
        recipe(SELECT, "select: {kind: best_vs_wrost}"),
    ),
    "literal_key": Wrong(BUILD, ("sample.api_key", "api_key_env"), recipe("n: 6", f"n: 6, api_key: {KEY}")),
    "literal_key_elsewhere": Wrong(BUILD, ("sample.system", "api_key_env"), recipe("n: 6", f"n: 6, system: use {KEY}")),
    "literal_key_in_set": Wrong(f"{BUILD} --set sample.token={KEY}", ("sample.token", "api_key_env")),
    "number_not_finite": Wrong(BUILD, ("split.test is nan", "finite"), recipe("test: 0.2", "test: .nan")),
    "number_too_large": Wrong(f"{BUILD} --set split.seed={2**64}", ("split.seed is 18446744073709551616", "less than")),
    "number_negative": Wrong(f"{BUILD} --set sample.n=-1", ("sample.n is -1", "greater than or equal to 1")),
    "prompts_missing": Wrong(
        BUILD, ("problms.jsonl", "did you mean 'problems.jsonl'"), recipe("path: problems.jsonl", "path: problms.jsonl")
    ),
    "column_wrong": Wrong(
        BUILD, ("'questoin'", "did you mean 'question'"), recipe("prompt: question", "prompt: questoin")
    ),
    "dataset_empty": Wrong(BUILD, ("problems.jsonl", "empty"), {"problems.jsonl": ""}),
    "dataset_unusable": Wrong(
        BUILD, ("problems.jsonl", "no row can be imported"), {"problems.jsonl": '{"question": null}'}
    ),
    "source_unknown": Wrong(
        f"{BUILD} --set prompts.map={{}} --set prompts.path=null --set prompts.imported=problms",
        ("'problms' was never imported", "did you mean 'problems'"),
    ),
    "aspect_unknown": Wrong(
        f"{BUILD} --set aggregate.kind=weights --set aggregate.weights.math=1", ("aggregate names 'math'", "regex")
    ),
    "model_is_none": Wrong(
        f"{BUILD} --set sample.backend=transformers --set policy.model=nowhere",
        ("nowhere",),
        {"nowhere/readme.txt": "x"},
    ),
    "check_of_no_policy": Wrong(f"{BUILD} --set check.reference=policy", ("check.reference", "`policy.model`")),
    "check_of_no_model": Wrong(f"{BUILD} --set check.reference=nowhere", ("reference 'nowhere'", "does not exist")),
    "judge_key_not_set": Wrong(
        BUILD,
        ("NO_SUCH_KEY", "which is not set"),
        recipe('{kind: verifier, name: regex, pattern: "is -?\\\\d*[02468]\\\\."}',
               "{kind: judge, mode: aspects, endpoint: 'http://localhost/v1', model: m, revision: '1', "
               "api_key_env: NO_SUCH_KEY}"),
    ),
    "set_bad_path": Wrong(f"{BUILD} --set sampel.n=3", ("sampel", "did you mean 'sample'")),
    "set_bad_index": Wrong(f"{BUILD} --set score.4.repeats=2", ("score.4 does not exist", "from 0 to 0")),
    "set_no_value": Wrong(f"{BUILD} --set sample.n", ("--set got 'sample.n'", "KEY=VALUE")),
    "retry_unknown": Wrong(f"{BUILD} --retry unparseable", ("'unparseable'", "did you mean 'unparsable'")),
    "version_unknown": Wrong("show arithmetc", ("'arithmetc' does not exist", "did you mean 'arithmetic'")),
    "version_number_unknown": Wrong("ledger arithmetic@v7", ("arithmetic@v7", "did you mean 'arithmetic@v1'")),
    "version_unknown_in_diff": Wrong("diff arithmetic@v1 arithmetic@v2", ("'arithmetic@v2' does not exist",)),
    "name_unknown": Wrong("log arithmetics", ("'arithmetics'", "did you mean 'arithmetic'")),
    "tag_unknown": Wrong("tag arithmetic gold --delete", ("tag 'gold' does not exist",)),
    "tag_hides_a_name": Wrong("tag arithmetic@v1 arithmetic", ("could be mistaken for a version",)),
    "row_id_absent": Wrong("trace 0123456789abcdef0123456789abcdef", ("0123456789abcdef",)),
    "row_id_too_short": Wrong("trace 01", ("'01'", "hex digits")),
    "sort_unknown": Wrong("show arithmetic --sort score_margn", ("'score_margn'", "did you mean 'score_margin'")),
    "where_unknown": Wrong("show arithmetic --where score_margn>0", ("'score_margn'", "did you mean 'score_margin'")),
    "where_no_sql": Wrong("show arithmetic --where score_margin>>>", ("--where 'score_margin>>>' cannot be obeyed",)),
    "where_two_statements": Wrong("show arithmetic --where true;drop", ("cannot be obeyed",)),
    "where_no_condition": Wrong("show arithmetic --where score_margin", ("cannot be obeyed",)),
    "outcome_unknown": Wrong("show arithmetic --outcome duplicat", ("'duplicat'", "did you mean 'duplicate'")),
    "outcome_not_listed": Wrong("ledger arithmetic --outcome selected --show 3", ("'selected'", "not listed")),
    "outcome_and_where": Wrong("show arithmetic --outcome duplicate --where true", ("--outcome cannot be joined",)),
    "stage_unknown": Wrong("ledger arithmetic --stage scroe", ("'scroe'", "did you mean 'score'")),
    "show_no_outcome": Wrong("ledger arithmetic --show 3", ("--outcome",)),
    "export_folder_taken": Wrong("export arithmetic --to taken", ("taken exists",), {"taken/file": "x"}),
    "export_format_unknown": Wrong("export arithmetic --to out --format trll", ("'trll'", "did you mean 'trl'")),
    "export_container_unknown": Wrong("export arithmetic --to out --as parqet", ("'parqet'", "did you mean 'parquet'")),
    "import_kind_unknown": Wrong("import problems.jsonl --as prompt", ("--as got 'prompt'", "did you mean 'prompts'")),
    "import_pairs_without_columns": Wrong(
        "import problems.jsonl --as preferences --map prompt=question", ("problems.jsonl has no column 'chosen'",)
    ),
    "import_map_unknown": Wrong(
        "import problems.jsonl --as prompts --map promt=question", ("'promt'", "did you mean 'prompt'")
    ),
    "import_map_no_pair": Wrong("import problems.jsonl --as prompts --map question", ("OURS=THEIRS",)),
    "rows_negative": Wrong("show arithmetic -n -3", ("-3", ">= 1")),
    "rows_no_number": Wrong("show arithmetic -n many", ("many", "int")),
    "keep_zero": Wrong("gc --keep 0", ("0", ">= 1")),
    "rebuild_unknown": Wrong("verify --rebuild arithmetik", ("did you mean 'arithmetic'",)),
    "init_twice": Wrong("init", ("is a workspace already",)),
    "init_at_a_file": Wrong("init problems.jsonl", ("problems.jsonl", "choose another place")),
    "init_below_a_file": Wrong("init problems.jsonl/sub", ("problems.jsonl", "choose another place")),
    "workspace_is_a_file": Wrong("log --workspace problems.jsonl", ("problems.jsonl holds no workspace",)),
    "workspace_missing": Wrong("log --workspace /nonexistent", ("/nonexistent holds no workspace", "prefkit init")),
    "workspace_missing_before": Wrong("--workspace /nonexistent log", ("/nonexistent holds no workspace",)),
    "command_unknown": Wrong("biuld recipe.yaml", ("biuld", 'Did you mean "build"')),
    "option_unknown": Wrong(f"{BUILD} --dry-rn", ("--dry-rn", "Did you mean --dry-run")),
    "option_not_here": Wrong("log --where true", ("--where", "prefkit log --help")),
    "argument_missing": Wrong("trace", ("ID", "prefkit trace --help")),
    "recipe_not_given": Wrong("build", ("no recipe", "--from-run")),
    "recipe_beside_a_run": Wrong(f"{BUILD} --from-run x", ("--from-run", "--name")),
    "run_unknown": Wrong("build --from-run x", ("run 'x' does not exist", "prefkit train")),
    "argument_too_many": Wrong("log arithmetic other", ("other", "prefkit log --help")),
}  # fmt: skip


def one_line(told: str) -> str:
    """The one line that was told; fails when there are more, or a traceback."""
    lines = told.splitlines()
    assert len(lines) == 1, told
    assert lines[0].startswith("error: "), told
    return lines[0]


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_wrong_input_is_told_in_one_line(wrong: Wrong, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in wrong.files.items():
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(text)
    code = main(wrong.command.split())
    told = capsys.readouterr()
    line = one_line(told.err)
    assert [words for words in wrong.says if words not in line] == [], line
    assert code == 2
    assert told.out == ""
    assert KEY not in line
    assert main(["verify"]) == 0


def test_beginning_of_two_row_ids_is_told_with_both(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = Workspace.open(project).facts
    known: bytes = facts.read(PROMPTS, ["id"])["id"][0]
    twin = known[:4] + bytes(12)
    rows = {"id": [twin], "messages": [[{"role": "user", "content": "?"}]]}
    facts.append(PROMPTS, pa.table({name: pa.array(v, PROMPTS.schema.field(name).type) for name, v in rows.items()}))
    assert main(["trace", known.hex()[:8]]) == 2
    line = one_line(capsys.readouterr().err)
    assert known.hex() in line
    assert twin.hex() in line
    assert main(["trace", known.hex()[:12]]) == 0


def test_workspace_of_a_newer_format_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / ".prefkit" / "workspace.json").write_text('{"format": 99}')
    assert main(["log"]) == 2
    assert "format 99" in one_line(capsys.readouterr().err)


def test_workspace_not_found_upwards_is_told(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "recipe.yaml"]) == 2
    assert "prefkit init" in one_line(capsys.readouterr().err)


HOLD = """
import sys
from pathlib import Path
from prefkit.store.workspace import Workspace
with Workspace.open(Path(sys.argv[1])).building("arithmetic"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_name_being_built_elsewhere_is_told_with_its_process(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-c", HOLD, str(project)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        code = main(["build", "recipe.yaml"])
        holder.communicate()
    assert code == 2
    assert f"arithmetic is being built by process {holder.pid}" in one_line(capsys.readouterr().err)
    assert main(["build", "recipe.yaml"]) == 0


def test_gc_while_building_is_told(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-c", HOLD, str(project)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        code = main(["gc"])
        holder.communicate()
    assert code == 2
    assert "another process is using" in one_line(capsys.readouterr().err)
