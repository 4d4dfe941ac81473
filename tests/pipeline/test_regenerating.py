"""A version regenerated with another policy's completions: all of them, or those of some prompts."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from prefkit.cli import main
from prefkit.pipeline.prompt_shares import in_share
from prefkit.pipeline.rebuild import rebuild
from prefkit.pipeline.recipe import Recipe
from prefkit.pipeline.regenerating import regenerated_recipe
from prefkit.store.versions import Version
from prefkit.store.workspace import Workspace
from tests.pipeline.shifted import built, imported, own, policy_workspace, problems, verily


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return policy_workspace(tmp_path_factory.mktemp("regenerated"))


@pytest.fixture(scope="module")
def foreign(workspace: Workspace) -> Version:
    return built(workspace, verily(workspace)).version


def command(workspace: Workspace, *arguments: str) -> int:
    folder = workspace.root.parent
    told = ["--policy", str(folder / "policy"), "--workspace", str(folder)]
    return main(["regenerate", *arguments, "--max-new-tokens", "64", *told])


def off_support(shift: dict[str, Any]) -> list[float]:
    return [side["off_support"]["value"] for side in shift["overall"]["sides"]]


def test_regenerate_replaces_foreign_completions_by_the_policys_own(
    workspace: Workspace, foreign: Version, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(workspace, foreign.label, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    new = workspace.versions.get(found["version"])
    assert (found["parents"], new.content["parents"]) == ([foreign.label], [foreign.label])
    assert min(off_support(found["shift"]["before"])) >= 0.3
    assert max(off_support(found["shift"]["after"])) <= 0.1
    scores = new.frame().select("chosen_score", "rejected_score").collect()
    assert (scores["chosen_score"].min(), scores["rejected_score"].max()) == (1.0, 0.0)


def test_kept_share_has_the_versions_own_rows_and_the_rest_the_policys(
    workspace: Workspace, foreign: Version, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(workspace, foreign.label, "--keep", "0.4") == 0
    told = capsys.readouterr().out
    new = workspace.versions.newest(foreign.name)
    assert new is not None
    rows = new.frame().collect()
    kept = in_share(rows["prompt_id"], (0, 0.4))
    theirs = rows["chosen_policy_id"].str.starts_with("imported:")
    assert 0 < kept.sum() < rows.height
    assert theirs.equals(kept)
    of_before = foreign.frame().collect().filter(in_share(foreign.frame().collect()["prompt_id"], (0, 0.4)))
    assert set(rows.filter(kept)["pair_id"]) == set(of_before["pair_id"])
    assert f"{new.label}, from {foreign.label}:" in told
    assert [line for line in told.splitlines() if line.startswith(f"{foreign.label}: 100.0% of chosen off-support")]
    assert new.content["recipe"]["completions"]["prompt_share"] == [0, 0.4]
    assert rebuild(new, workspace) == []


def test_recipe_says_what_is_kept_and_what_is_drawn_anew(workspace: Workspace) -> None:
    version = built(workspace, own(name="sampled", check={"reference": "policy", "max_off_support": 0.5})).version
    recipe = regenerated_recipe(version, "other", n=5, max_new_tokens=9, keep=0.3)
    shares = [(b.policy.model if b.policy else None, b.n, b.prompt_share) for b in recipe.sample]
    assert shares == [("policy", 4, (0.0, 0.3)), (None, 5, (0.3, 1.0))]
    assert recipe.policy is not None
    assert (recipe.policy.model, recipe.completions) == ("other", None)
    assert recipe.check == Recipe.model_validate(version.provenance["recipe"]).check
    assert {block.max_new_tokens for block in recipe.sample} == {64}


def test_keeping_twice_keeps_of_the_kept(workspace: Workspace, foreign: Version) -> None:
    half = built(workspace, regenerated_recipe(foreign, "policy", n=2, max_new_tokens=64, keep=0.5)).version
    more = regenerated_recipe(half, "other", n=2, max_new_tokens=64, keep=0.7)
    assert more.completions is not None
    assert more.completions.prompt_share == (0.0, 0.5)
    assert [block.prompt_share for block in more.sample] == [(0.5, 0.7), (0.7, 1.0)]
    less = regenerated_recipe(half, "other", n=2, max_new_tokens=64, keep=0.2)
    assert less.completions is not None
    assert (less.completions.prompt_share, [b.prompt_share for b in less.sample]) == ((0.0, 0.2), [(0.2, 1.0)])


def test_trace_of_a_completion_outside_the_share_says_so(
    workspace: Workspace, foreign: Version, capsys: pytest.CaptureFixture[str]
) -> None:
    new = built(workspace, regenerated_recipe(foreign, "policy", n=2, max_new_tokens=64, keep=0.4)).version
    out = new.outcomes().filter(pl.col("outcome") == "other_share").collect()
    assert out.height == 2 * in_share(foreign.frame().collect()["prompt_id"], (0.4, 1)).sum()
    assert main(["trace", out["id"][0].hex(), "--workspace", str(workspace.root.parent)]) == 0
    assert "ended as other_share" in capsys.readouterr().out


def test_gate_of_the_recipe_holds_for_what_is_regenerated(
    workspace: Workspace, foreign: Version, capsys: pytest.CaptureFixture[str]
) -> None:
    written = Recipe.model_validate(foreign.provenance["recipe"]).model_dump(mode="json") | {
        "name": "gated", "check": {"reference": "./policy", "max_off_support": 0.1, "max_new_tokens": 64},
    }  # fmt: skip
    gated = built(workspace, Recipe.model_validate(written)).version
    assert gated.content["shift"]["passed"] is False
    assert command(workspace, gated.label, "--keep", "0.6") == 1
    assert "gate: crossed" in capsys.readouterr().out
    assert command(workspace, gated.label) == 0


def test_regenerate_without_a_scorer_for_new_completions_is_a_mistake(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"q": p["question"], "a": p["answer"], "good": f"{i}!", "bad": f"{i}?"} for i, p in enumerate(problems())]
    sides = {"a": {"text": "good"}, "b": {"text": "bad"}}
    imported(workspace, "rated", rows, completions=sides, comparisons=[{"scorer": "=me", "preference": "=1"}])
    blocks = {
        "name": "rated", "prompts": {"imported": "rated"}, "score": [{"kind": "imported", "scorer": "me"}],
        "select": {"kind": "comparisons"},
    }  # fmt: skip
    version = built(workspace, Recipe.model_validate(blocks)).version
    assert command(workspace, version.label) == 2
    assert "imported ratings alone" in capsys.readouterr().err


def test_policy_that_is_no_model_is_told_in_one_line(
    workspace: Workspace, foreign: Version, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["regenerate", foreign.label, "--policy", str(tmp_path), "--workspace", str(workspace.root.parent)]) == 2
    )
    assert capsys.readouterr().err.count("\n") == 1
