"""A version checked against models that are and are not where it came from."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from prefkit.cli import main
from prefkit.pipeline.build import build
from prefkit.pipeline.checking import CheckOptions, check
from prefkit.pipeline.importing import import_tables
from prefkit.pipeline.recipe import Recipe
from prefkit.records import LOGPS
from prefkit.shift.registry import Reference
from prefkit.sources.config import ImportConfig
from prefkit.store.versions import Version
from prefkit.store.workspace import Workspace

ARITHMETIC = Path(__file__).parents[2] / "recipes" / "arithmetic"
PROMPTS = 40


class Counting:
    """A progress that adds up what had to be computed."""

    def __init__(self) -> None:
        self.missing: dict[str, int] = {}

    def stage(self, name: str, planned: int, missing: int) -> None:
        self.missing[name] = self.missing.get(name, 0) + missing

    def advance(self, keys: int) -> None:
        pass


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("checked")
    shutil.copytree(ARITHMETIC / "policy", folder / "policy")
    shutil.copy(ARITHMETIC / "problems.jsonl", folder)
    return Workspace.create(folder)


@pytest.fixture(scope="module")
def sampled(workspace: Workspace) -> Version:
    blocks: Mapping[str, object] = {
        "name": "own",
        "prompts": {"path": "problems.jsonl", "map": {"prompt": "question"}, "limit": PROMPTS},
        "policy": {"model": "policy"},
        "sample": {"backend": "transformers", "n": 4, "max_new_tokens": 64},
        "score": [{"kind": "verifier", "name": "math"}],
        "select": {"kind": "threshold", "desirable_at": 0.5},
    }
    return build(Recipe.model_validate(blocks), workspace, workspace.root.parent).version


@pytest.fixture(scope="module")
def foreign(workspace: Workspace) -> Version:
    """Answers that the policy would never write."""
    folder = workspace.root.parent
    lines = (folder / "problems.jsonl").read_text().splitlines()[:PROMPTS]
    rows = [
        {"q": json.loads(line)["question"], "good": f"{i} it is, I dare say!", "bad": f"No idea; ask {i} others?"}
        for i, line in enumerate(lines)
    ]
    (folder / "foreign.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    table = {
        "path": str(folder / "foreign.jsonl"),
        "prompt": {"text": "q"},
        "completions": {"a": {"text": "good"}, "b": {"text": "bad"}},
        "comparisons": [{"scorer": "=me", "preference": "=1"}],
    }
    import_tables(workspace.facts, ImportConfig.model_validate({"name": "foreign", "tables": [table]}))
    blocks: Mapping[str, object] = {
        "name": "foreign",
        "prompts": {"imported": "foreign"},
        "score": [{"kind": "imported", "scorer": "me"}],
        "select": {"kind": "comparisons"},
    }
    return build(Recipe.model_validate(blocks), workspace, folder).version


def options(workspace: Workspace) -> CheckOptions:
    return CheckOptions(Reference(str(workspace.root.parent / "policy")), max_new_tokens=64)


def test_own_samples_fit_and_stored_logps_are_those_of_the_sampler(workspace: Workspace, sampled: Version) -> None:
    found = check(sampled, workspace, options(workspace), Counting())
    (side,) = found.report.overall.sides
    assert found.report.verdict.kind == "fine"
    assert side.off_support.value <= 0.05
    rows = found.scores.rows
    assert (rows["logps"] - rows["behavior_logps"]).abs().max() == pytest.approx(0, abs=1e-4)


def test_log_ratio_of_a_completion_that_is_cut_is_unknown(workspace: Workspace, sampled: Version) -> None:
    rows = check(sampled, workspace, replace(options(workspace), max_length=45), Counting()).scores.rows
    assert 0 < rows["cut"].sum() < rows.height
    assert rows.filter("cut")["log_ratio"].null_count() == rows["cut"].sum()
    assert rows.filter(~pl.col("cut"))["log_ratio"].abs().max() == pytest.approx(0, abs=1e-4)


def test_reference_whose_samples_do_not_fit_its_context_is_told_in_one_line(
    workspace: Workspace, sampled: Version, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = workspace.root.parent
    told = ["check", sampled.label, "--reference", str(folder / "policy"), "--workspace", str(folder)]
    assert main([*told, "--max-new-tokens", "100000"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: the reference drew none of")
    assert "too_long" in last


def test_texts_of_others_are_off_support_and_the_remedy_is_to_regenerate(
    workspace: Workspace, foreign: Version
) -> None:
    found = check(foreign, workspace, options(workspace), Counting())
    assert found.report.verdict.kind == "regenerate"
    assert found.scores.rows["off_support"].mean() == 1.0
    assert found.scores.rows["nll_gap"].min() > 1.0


def test_second_check_computes_nothing(workspace: Workspace, sampled: Version) -> None:
    first = check(sampled, workspace, options(workspace), Counting())
    facts = workspace.facts.read(LOGPS, ["id"]).height
    again = Counting()
    second = check(sampled, workspace, options(workspace), again)
    assert set(again.missing.values()) == {0}
    assert workspace.facts.read(LOGPS, ["id"]).height == facts
    assert second.report.to_json() == first.report.to_json()


def test_check_command_exits_1_when_the_gate_is_crossed(
    workspace: Workspace, foreign: Version, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = workspace.root.parent
    told = ["check", foreign.label, "--reference", str(folder / "policy"), "--workspace", str(folder)]
    told += ["--max-new-tokens", "64", "--rows", str(tmp_path / "rows.parquet")]
    assert main([*told, "--max-off-support", "0.1"]) == 1
    assert "gate: crossed" in capsys.readouterr().out
    assert main([*told, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True
    assert pl.read_parquet(tmp_path / "rows.parquet").height == PROMPTS


def test_regenerate_replaces_foreign_completions_by_the_policys_own(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = workspace.root.parent
    problems = [json.loads(line) for line in (folder / "problems.jsonl").read_text().splitlines()[:PROMPTS]]
    rows = [
        {"q": p["question"], "a": p["answer"], "text": f"Ergo, verily, {said}!", "by": by}
        for p in problems
        for by, said in (("sage", p["answer"]), ("fool", "987654"))
    ]
    (folder / "verily.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    table = {
        "path": str(folder / "verily.jsonl"),
        "prompt": {"text": "q", "answer": "a"},
        "completions": {"it": {"text": "text", "model": "by"}},
    }
    import_tables(workspace.facts, ImportConfig.model_validate({"name": "verily", "tables": [table]}))
    blocks: Mapping[str, object] = {
        "name": "verily",
        "prompts": {"imported": "verily"},
        "score": [{"kind": "verifier", "name": "math"}],
        "select": {"kind": "correct_vs_incorrect"},
    }
    old = build(Recipe.model_validate(blocks), workspace, folder).version
    told = ["regenerate", "verily", "--policy", str(folder / "policy"), "--workspace", str(folder), "--json"]
    assert main([*told, "--max-new-tokens", "64"]) == 0
    found = json.loads(capsys.readouterr().out)
    new = workspace.versions.get("verily")
    assert (old.label, new.label, new.content["parents"]) == ("verily@v1", "verily@v2", ["verily@v1"])
    before, after = (found["shift"][when]["overall"]["sides"] for when in ("before", "after"))
    assert min(side["off_support"]["value"] for side in before) >= 0.3
    assert max(side["off_support"]["value"] for side in after) <= 0.1
    scores = new.frame().select("chosen_score", "rejected_score").collect()
    assert (scores["chosen_score"].min(), scores["rejected_score"].max()) == (1.0, 0.0)


def test_regenerate_without_a_scorer_for_new_completions_is_a_mistake(
    workspace: Workspace, foreign: Version, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = workspace.root.parent
    told = ["regenerate", foreign.label, "--policy", str(folder / "policy"), "--workspace", str(folder)]
    assert main(told) == 2
    assert "imported ratings alone" in capsys.readouterr().err


@pytest.mark.parametrize("reference", ["nowhere", "problems.jsonl"])
def test_reference_that_is_no_model_is_told_in_one_line(
    workspace: Workspace, foreign: Version, reference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = workspace.root.parent
    assert main(["check", foreign.label, "--reference", str(folder / reference), "--workspace", str(folder)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
