"""A training machine without Lance: it starts, goes on with and replays runs, and trains on versions."""

import shutil
from pathlib import Path

import pytest

from prefkit.store.runs import Runs
from prefkit.store.workspace import FOLDER, Workspace
from tests.e2e.killed import KILLED, run
from tests.e2e.test_demo import copied

pytest.importorskip("trl")
pytest.importorskip("math_verify")

TRAIN = (
    "train: {method: dpo, sync_period: 2, reference: behavior, prompts: 6, args: {max_steps: 3, save_steps: 2, "
    "per_device_train_batch_size: 4, learning_rate: 1.0e-4, logging_steps: 1}}\n"
)
RUN = "arithmetic-1"
LANCE = ("lance",)


def project(folder: Path) -> Path:
    """A folder with a workspace, the policy, problems, and a recipe that trains."""
    recipe = copied(folder, 60)
    recipe.write_text(recipe.read_text().replace("n: 8", "n: 4") + TRAIN)
    return folder


def told(folder: Path) -> str:
    return (folder / "output.txt").read_text()


def weights(folder: Path, name: str = RUN) -> str:
    outcome = Runs(Workspace.open(folder).root).get(name).outcome
    assert outcome is not None, told(folder)
    return outcome.weights


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run where Lance is."""
    folder = project(tmp_path_factory.mktemp("whole") / "run")
    assert run(folder, ["train", "recipe.yaml"]) == 0, told(folder)
    return folder


def test_run_started_without_lance_is_the_run_with_it(whole: Path, tmp_path: Path) -> None:
    folder = project(tmp_path / "run")
    assert run(folder, ["train", "recipe.yaml"], missing=LANCE) == 0, told(folder)
    assert weights(folder) == weights(whole)
    assert not Workspace.open(folder).has_facts


def test_run_begun_elsewhere_is_gone_on_with_and_replayed_without_lance(whole: Path, tmp_path: Path) -> None:
    begun, folder = project(tmp_path / "begun"), project(tmp_path / "run")
    assert run(begun, ["train", "recipe.yaml"], "step", 2, after=True) == KILLED, told(begun)
    shutil.copytree(begun / FOLDER / "runs" / RUN, folder / FOLDER / "runs" / RUN)
    (folder / "problems.jsonl").unlink()
    record = folder / FOLDER / "runs" / RUN / "run.json"
    record.write_text(record.read_text().replace(str(begun), str(folder)))
    assert run(folder, ["train", "--resume", RUN], missing=LANCE) == 0, told(folder)
    assert weights(folder) == weights(whole)
    assert run(folder, ["replay", RUN, "--json"], "draw", missing=LANCE) == 0, told(folder)
    assert '"same_weights": true' in told(folder)


def test_version_built_elsewhere_is_trained_on_without_lance(whole: Path, tmp_path: Path) -> None:
    folder = project(tmp_path / "run")
    copied_whole = tmp_path / "whole"
    shutil.copytree(whole, copied_whole)
    assert run(copied_whole, ["build", "--from-run", RUN, "--name", "online"]) == 0, told(copied_whole)
    shutil.copytree(copied_whole / FOLDER / "versions", folder / FOLDER / "versions", dirs_exist_ok=True)
    offline = ["train", "recipe.yaml", "--set", "train.sync_period=null", "--data", "online@v1"]
    assert run(folder, offline, missing=LANCE) == 0, told(folder)
    assert weights(folder)


def test_prompts_in_fact_tables_need_lance_in_one_line(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    (folder / "output.txt").unlink()
    assert run(folder, ["train", "recipe.yaml"], missing=LANCE) == 2
    assert told(folder) == (
        f"error: the fact tables of {folder / FOLDER} need lance, which is not installed: pip install pylance, or work "
        "with them where it is\n"
    )
