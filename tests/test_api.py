from pathlib import Path

import pytest
import yaml

import prefkit
from prefkit.errors import WorkspaceError
from tests.pipeline.builders import problems, recipe, write_problems


def recipe_file(folder: Path) -> Path:
    write_problems(folder, problems(12))
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe().model_dump(mode="json", exclude_none=True, exclude_defaults=True)))
    return path


def test_build_returns_a_version_that_tells_its_rows_and_its_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prefkit.Workspace.create(tmp_path)
    version = prefkit.build(recipe_file(tmp_path))
    assert str(version) == "small@v1"
    ledger = version.ledger()
    assert ledger.filter(stage="sample")["count"].sum() == 12 * 6
    pairs = version.frame("train").collect()
    assert pairs.height == ledger.filter(stage="version", outcome="train")["count"].item()
    candidates = version.candidates()
    assert candidates.height == ledger.filter(stage="completion hygiene")["kept"][0]
    assert set(pairs["chosen_id"]) <= set(candidates["completion_id"])
    scores = dict(candidates.select("completion_id", "score").iter_rows())
    assert [scores[i] for i in pairs["chosen_id"]] == pairs["chosen_score"].to_list()
    assert str(prefkit.open_version("small")) == "small@v1"


def test_build_with_overrides_is_another_recipe(tmp_path: Path) -> None:
    prefkit.Workspace.create(tmp_path)
    path = recipe_file(tmp_path)
    prefkit.build(path, workspace=tmp_path)
    more = prefkit.build(path, workspace=tmp_path, overrides=["sample.0.n=7"])
    assert str(more) == "small@v2"
    assert more.ledger().filter(stage="sample")["planned"][0] == 12 * 7


def test_dataset_has_the_splits_in_trl_columns(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    prefkit.Workspace.create(tmp_path)
    dataset = prefkit.build(recipe_file(tmp_path), workspace=tmp_path, overrides=["split={test: 0.3}"]).dataset()
    assert set(dataset) == {"train", "test"}
    row = dataset["train"][0]
    assert [m["role"] for m in row["prompt"] + row["chosen"] + row["rejected"]] == ["user", "assistant", "assistant"]


def test_build_without_a_workspace_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WorkspaceError, match="run `prefkit init`"):
        prefkit.build(recipe_file(tmp_path))
