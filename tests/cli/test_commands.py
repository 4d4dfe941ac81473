"""Commands on a small built project, and in processes of their own where signals and pipes matter."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest

from prefkit.cli import COMMANDS, main
from prefkit.store.versions import Version
from prefkit.store.workspace import Workspace
from tests.cli.projects import PROBLEMS, RECIPE, files_below

Captured = pytest.CaptureFixture[str]


def said(capsys: Captured, *arguments: str, code: int = 0) -> str:
    """What a command that must exit with `code` writes to stdout."""
    capsys.readouterr()
    assert main(arguments) == code
    return capsys.readouterr().out


def said_json(capsys: Captured, *arguments: str, code: int = 0):
    return json.loads(said(capsys, *arguments, "--json", code=code))


def newest(project: Path) -> Version:
    return Workspace.open(project).versions.get("arithmetic")


@pytest.mark.parametrize("command", COMMANDS)
def test_command_is_listed_and_explains_itself(command: str, capsys: Captured) -> None:
    listed = said(capsys, "--help")
    assert f"\n  {command} " in listed
    own = said(capsys, command, "--help")
    assert f"Usage: prefkit {command}" in own
    assert "--workspace PATH" in own
    silent = [
        line for line in own.splitlines() if line.startswith("  --") and len(line) < 24 and line.strip() == line[2:]
    ]
    following = own.splitlines()
    assert [s for s in silent if not following[following.index(s) + 1].startswith(" " * 24)] == []


def test_build_ends_with_the_version_and_its_ledger(bare: Path, capsys: Captured) -> None:
    main(["init"])
    first, _, *table = said(capsys, "build", "recipe.yaml").splitlines()
    version = newest(bare)
    train, test = version.splits["train"], version.splits["test"]
    drawn = PROBLEMS * 6
    labelled = version.content["ledger"][4]["planned"]
    assert (
        first == f"arithmetic@v1: {train + test} pairs ({train} train, {test} test); {drawn} drawn, {labelled} labelled"
    )
    assert [line.split("  ")[0] for line in table if line[:1].isalpha()] == [
        "stage", "import", "prompt hygiene", "sample", "completion hygiene", "score", "select", "select rows",
        "pair hygiene", "version",
    ]  # fmt: skip


def test_build_with_the_math_verifier_scores_against_the_answers(bare: Path, capsys: Captured) -> None:
    main(["init"])
    done = said_json(capsys, "build", "recipe.yaml", "--set", "score=[{kind: verifier, name: math, workers: 1}]")
    assert done["ledger"][4]["outcomes"] == {"scored": done["labelled"]}
    for row in newest(bare).frame().collect().iter_rows(named=True):
        right, wrong = (row[side][0]["content"].endswith(f" {row['answer']}.") for side in ("chosen", "rejected"))
        assert (right, wrong) == (True, False)


def test_build_again_is_unchanged_and_computes_nothing(project: Path, capsys: Captured) -> None:
    assert ", unchanged: " in said(capsys, "build", "recipe.yaml")
    told = said_json(capsys, "build", "recipe.yaml")
    assert (told["version"], told["new"], told["drawn"], told["labelled"]) == ("arithmetic@v1", False, 0, 0)


def test_build_json_is_one_document_and_progress_goes_to_stderr(project: Path, capsys: Captured) -> None:
    assert main(["build", "recipe.yaml", "--set", "sample.n=8", "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["drawn"] == PROBLEMS * 2
    assert f"sample: {PROBLEMS * 8} planned, {PROBLEMS * 2} to do" in told.err.splitlines()


def test_dry_run_says_what_the_build_then_does_and_writes_nothing(bare: Path, capsys: Captured) -> None:
    main(["init"])
    before = files_below(bare)
    plan = said_json(capsys, "build", "recipe.yaml", "--dry-run")
    assert files_below(bare) == before
    done = said_json(capsys, "build", "recipe.yaml")
    assert [d["to_do"] for d in plan["draws"]] == [done["drawn"]]
    assert plan["labels_are_upper_bound"]
    assert plan["labels"][0]["to_do"] >= done["labelled"] > 0


def test_dry_run_after_a_build_has_nothing_to_do(project: Path, capsys: Captured) -> None:
    plan = said_json(capsys, "build", "recipe.yaml", "--dry-run")
    assert [work["to_do"] for work in plan["draws"] + plan["labels"]] == [0, 0]
    assert not plan["labels_are_upper_bound"]


def test_dry_run_of_one_more_scorer_asks_for_its_labels_alone(project: Path, capsys: Captured) -> None:
    length = "  - {kind: verifier, name: length, max: 30}\nselect"
    (project / "recipe.yaml").write_text(RECIPE.replace("select", length, 1))
    plan = said_json(capsys, "build", "recipe.yaml", "--dry-run")
    done = said_json(capsys, "build", "recipe.yaml")
    assert [work["to_do"] for work in plan["draws"] + plan["labels"]] == [0, 0, done["labelled"]]


def test_import_preview_imports_nothing(project: Path, capsys: Captured) -> None:
    before = files_below(project / ".prefkit" / "facts")
    arguments = ("import", "problems.jsonl", "--as", "prompts", "--map", "prompt=question", "--name", "sums")
    told = said(capsys, *arguments, "--preview", "2")
    assert "What is 0 + 7?" in told
    assert "What is 2 + 9?" not in told
    assert files_below(project / ".prefkit" / "facts") == before


def test_import_makes_a_source_that_recipes_name(project: Path, capsys: Captured) -> None:
    arguments = ("import", "problems.jsonl", "--as", "prompts", "--map", "prompt=question", "--name", "sums")
    assert said_json(capsys, *arguments)["outcomes"] == {"prompts": {"imported": PROBLEMS}}
    source = ("--set", "prompts.path=null", "--set", "prompts.map={}", "--set", "prompts.imported=sums")
    assert said_json(capsys, "build", "recipe.yaml", *source)["drawn"] == 0


def test_log_lists_versions_newest_first_with_their_tags(project: Path, capsys: Captured) -> None:
    main(["build", "recipe.yaml", "--set", "sample.n=8"])
    main(["tag", "arithmetic@v1", "paper"])
    log = said_json(capsys, "log")
    assert [(entry["label"], entry["tags"]) for entry in log] == [("arithmetic@v2", []), ("arithmetic@v1", ["paper"])]
    assert log[1]["splits"] == Workspace.open(project).versions.get("paper").splits
    assert "paper" in said(capsys, "log", "arithmetic")


def test_log_without_versions_says_what_to_do(bare: Path, capsys: Captured) -> None:
    main(["init"])
    assert "prefkit build" in said(capsys, "log")
    assert said_json(capsys, "log") == []


def test_show_puts_pairs_side_by_side_in_80_columns(project: Path, capsys: Captured) -> None:
    told = said(capsys, "show", "arithmetic", "-n", "1")
    row = newest(project).frame().collect().row(0, named=True)
    assert max(map(len, told.splitlines())) <= 80
    unmarked = told.translate(dict.fromkeys(map(ord, "⟦⟧")))
    texts = next(line for line in unmarked.splitlines() if row["chosen"][0]["content"] in line)
    assert row["rejected"][0]["content"] in texts.partition("│")[2]
    assert row["prompt"][0]["content"] in told
    assert row["pair_id"].hex()[:12] in told


def test_show_where_and_sort_choose_the_rows(project: Path, capsys: Captured) -> None:
    rows = newest(project).frame().collect()
    train = said_json(capsys, "show", "arithmetic", "--where", "split = 'train'", "-n", "1000")
    assert train["matching"] == len(train["rows"]) == newest(project).splits["train"]
    ordered = said_json(capsys, "show", "arithmetic", "--sort", "answer", "--descending", "-n", "3")["rows"]
    assert [row["answer"] for row in ordered] == rows["answer"].sort(descending=True).head(3).to_list()
    one = rows["pair_id"][0].hex()
    assert said_json(capsys, "show", "arithmetic", "--where", f"pair_id LIKE '{one[:12]}%'")["matching"] == 1


def test_show_of_single_completions_tells_score_and_text(project: Path, capsys: Captured) -> None:
    main(["build", "recipe.yaml", "--set", "select={kind: threshold, desirable_at: 1.0}"])
    told = said(capsys, "show", "arithmetic", "--where", "label", "-n", "1")
    row = newest(project).frame().filter(pl.col("label")).collect().row(0, named=True)
    assert "score 1 (regex 1) desirable" in told
    assert f"> {row['completion'][0]['content']}" in told


def test_show_never_lets_model_text_reach_the_terminal(bare: Path, capsys: Captured) -> None:
    (bare / "problems.jsonl").write_text('{"question": "\\u001b[31mWhat is 3 + 4?\\u202e [bold]"}')
    main(["init"])
    main(["build", "recipe.yaml", "--set", "sample.n=30", "--set", "split.test=0"])
    told = said(capsys, "show", "arithmetic")
    assert "\\x1b[31mWhat is 3 + 4?\\u202e [bold]" in told
    assert "\x1b" not in told


@pytest.mark.parametrize("outcome", ["duplicate", "no_correct", "no_incorrect"])
def test_show_outcome_lists_as_many_rows_as_the_ledger_counts(outcome: str, project: Path, capsys: Captured) -> None:
    main(["build", "recipe.yaml", "--set", "score.0.pattern=is 1"])
    counted = sum(a["outcomes"].get(outcome, 0) for a in said_json(capsys, "ledger", "arithmetic")["ledger"])
    rows = said_json(capsys, "show", "arithmetic", "--outcome", outcome, "-n", "10000")["rows"]
    assert len(rows) == counted > 0
    assert all(row["prompt"][0]["content"].startswith("What is ") for row in rows)


def test_show_dropped_completions_have_their_texts(project: Path, capsys: Captured) -> None:
    rows = said_json(capsys, "show", "arithmetic", "--outcome", "duplicate", "--stage", "completion hygiene")["rows"]
    assert rows
    assert all("The answer is" in row["completion"][0]["content"] for row in rows)


def test_show_dropped_pairs_have_both_texts(project: Path, capsys: Captured) -> None:
    main(["build", "recipe.yaml", "--set", "select={kind: all_pairs, max_length_ratio: 1.0}"])
    rows = said_json(capsys, "show", "arithmetic", "--outcome", "length_ratio", "-n", "5")["rows"]
    lengths = [[len(row[side][0]["content"]) for side in ("chosen", "rejected")] for row in rows]
    assert len(lengths) == 5
    assert all(chosen != rejected for chosen, rejected in lengths)


def test_show_dropped_labels_have_their_completions(bare: Path, capsys: Captured) -> None:
    main(["init"])
    failing = "score=[{kind: fake, aspect: taste, failures: {refused: 0.5}}]"
    main(["build", "recipe.yaml", "--set", failing, "--set", "select.kind=best_vs_worst"])
    rows = said_json(capsys, "show", "arithmetic", "--outcome", "refused", "-n", "4")["rows"]
    assert [(row["stage"], row["detail"]) for row in rows] == [("score", "taste")] * 4
    assert all("The answer is" in row["completion"][0]["content"] for row in rows)


def test_show_rows_refused_at_import_name_their_row(bare: Path, capsys: Captured) -> None:
    with (bare / "problems.jsonl").open("a") as file:
        file.write('\n{"question": null}\n')
    main(["init"])
    main(["build", "recipe.yaml"])
    rows = said_json(capsys, "show", "arithmetic", "--outcome", "missing_prompt")["rows"]
    assert [(row["stage"], row["detail"]) for row in rows] == [("import", f"problems.jsonl, row {PROBLEMS + 1}")]


def test_ledger_of_a_stage_is_that_account_alone(project: Path, capsys: Captured) -> None:
    (account,) = said_json(capsys, "ledger", "arithmetic", "--stage", "sample")["ledger"]
    assert (account["planned"], account["outcomes"]) == (PROBLEMS * 6, {"sampled": PROBLEMS * 6})
    assert f"sampled {PROBLEMS * 6}" in said(capsys, "ledger", "arithmetic")


def test_ledger_outcome_shows_its_rows_below(project: Path, capsys: Captured) -> None:
    told = said(capsys, "ledger", "arithmetic", "--outcome", "duplicate", "--show", "1")
    assert told.count("completion hygiene: duplicate | id ") == 1
    assert "The answer is" in told


def test_diff_counts_and_lists_changes(project: Path, capsys: Captured) -> None:
    main(["build", "recipe.yaml", "--set", "sample.n=12"])
    told = said_json(capsys, "diff", "arithmetic@v1", "arithmetic@v2", "--show", "3")
    assert {"path": "sample[0].n", "old": 6, "new": 12} in told["recipe_changes"]
    assert len(told["changes"]) == 3
    assert "sample[0].n" in said(capsys, "diff", "arithmetic@v1", "arithmetic@v2", "--show", "3")


def test_tag_stands_for_its_version_until_it_is_taken_away(project: Path, capsys: Captured) -> None:
    assert said(capsys, "tag", "arithmetic", "paper") == "paper is arithmetic@v1\n"
    assert said_json(capsys, "ledger", "paper")["version"] == "arithmetic@v1"
    said(capsys, "tag", "arithmetic@v1", "paper", "--delete")
    said(capsys, "ledger", "paper", code=2)


def test_trace_tells_the_story_of_a_row_from_the_first_digits_of_its_id(project: Path, capsys: Captured) -> None:
    row = newest(project).frame().collect().row(0, named=True)
    story = said_json(capsys, "trace", row["pair_id"].hex()[:12])
    assert (story["kind"], story["id"]) == ("pair", row["pair_id"].hex())
    assert row["chosen"][0]["content"] in said(capsys, "trace", row["pair_id"].hex())


@pytest.mark.parametrize("container", ["parquet", "jsonl"])
def test_export_writes_every_row(container: str, project: Path, capsys: Captured) -> None:
    said(capsys, "export", "arithmetic", "--to", "out", "--as", container)
    read = pl.read_parquet if container == "parquet" else pl.read_ndjson
    rows = {split: read(project / "out" / f"{split}.{container}") for split in newest(project).splits}
    assert {split: len(frame) for split, frame in rows.items()} == newest(project).splits
    assert {"prompt", "chosen", "rejected"} <= set(rows["train"].columns)


def test_export_hub_folder_holds_every_candidate(project: Path, capsys: Captured) -> None:
    said(capsys, "export", "arithmetic", "--to", "out", "--as", "hub-folder")
    candidates = pl.read_parquet(project / "out" / "data" / "candidates")
    accounts = {a["stage"]: a for a in said_json(capsys, "ledger", "arithmetic")["ledger"]}
    assert len(candidates) == accounts["completion hygiene"]["kept"]
    assert candidates["score"].mean() == candidates["scores"].struct.field("regex").mean()


def test_verify_rebuilds_a_version_byte_for_byte(project: Path, capsys: Captured) -> None:
    told = said_json(capsys, "verify", "--rebuild", "arithmetic")
    assert (told["damages"], told["rebuild"]) == ([], {"version": "arithmetic@v1", "differing": []})


def test_verify_of_damaged_rows_exits_1_and_names_the_place(project: Path, capsys: Captured) -> None:
    path = newest(project).path("train")
    data = bytearray(path.read_bytes())
    place = data.index(b"The answer is")
    data[place] ^= 1
    path.write_bytes(data)
    assert "damaged: arithmetic@v1, train.arrow" in said(capsys, "verify", code=1)
    (damage,) = said_json(capsys, "verify", code=1)["damages"]
    assert len(damage["row_ids"]) == 1


@pytest.mark.parametrize(("file", "command"), [("train.arrow", "show"), ("manifest.json", "ledger")])
def test_reading_a_version_with_a_torn_file_exits_1_in_one_line(
    file: str, command: str, project: Path, capsys: Captured
) -> None:
    path = newest(project).folder / file
    path.write_bytes(path.read_bytes()[:100])
    assert main([command, "arithmetic"]) == 1
    told = capsys.readouterr()
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1


def test_gc_dry_run_names_what_gc_then_removes(project: Path, capsys: Captured) -> None:
    main(["build", "recipe.yaml", "--set", "sample.n=8"])
    assert said_json(capsys, "gc", "--keep", "1", "--dry-run") == {"versions": ["arithmetic@v1"]}
    assert [e["label"] for e in said_json(capsys, "log")] == ["arithmetic@v2", "arithmetic@v1"]
    assert said_json(capsys, "gc", "--keep", "1")["versions"] == ["arithmetic@v1"]
    assert [e["label"] for e in said_json(capsys, "log")] == ["arithmetic@v2"]


@pytest.mark.parametrize("arguments", [["--workspace", "{}", "log", "--json"], ["log", "--json", "--workspace", "{}"]])
def test_workspace_option_stands_before_or_after_the_command(
    arguments: list[str], project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(json.loads(said(capsys, *(a.format(project) for a in arguments)))) == 1


def test_workspace_option_comes_before_the_environment(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFKIT_WORKSPACE", str(project))
    assert len(said_json(capsys, "log")) == 1
    said(capsys, "log", "--workspace", str(tmp_path / "elsewhere"), code=2)


def prefkit(*arguments: str) -> Sequence[str]:
    return [sys.executable, "-m", "prefkit", *arguments]


def test_interrupted_build_keeps_what_it_drew(bare: Path, capsys: Captured) -> None:
    main(["init"])
    many = ("build", "recipe.yaml", "--set", "sample.n=100")
    command = prefkit(*many, "--set", "sample.batch_size=1")
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as build:
        assert build.stderr is not None
        assert build.stderr.readline().startswith("sample: ")
        facts = Workspace.open(bare).facts
        while facts.heads()["completions"] < 5:
            time.sleep(0.02)
        build.send_signal(signal.SIGINT)
        _, told = build.communicate()
    assert build.returncode == 130
    assert told.splitlines()[-1].startswith("error: interrupted; everything acknowledged is kept")
    assert "Traceback" not in told
    assert said_json(capsys, *many)["drawn"] < PROBLEMS * 100


def test_closed_pipe_ends_a_command_quietly(project: Path) -> None:
    command = prefkit("show", "arithmetic", "--where", "true", "-n", "1000")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as show:
        assert show.stdout is not None
        assert show.stderr is not None
        show.stdout.close()
        assert show.stderr.read() == ""
    assert show.returncode == 141
