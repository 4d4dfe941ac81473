"""Training on what the policy samples and on a version, half and half: gone on with and replayed, bit for bit."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from prefkit.store.runs import Run, Runs
from prefkit.store.workspace import Workspace
from prefkit.stream.replay import served_rows
from tests.e2e.killed import KILLED, run
from tests.e2e.test_demo import copied

pytest.importorskip("trl")
pytest.importorskip("math_verify")

TRAIN = (
    "train: {method: dpo, sync_period: 2, reference: behavior, prompts: 6, mix: {live: 1, arithmetic: 1}, args: "
    "{max_steps: 5, save_steps: 2, per_device_train_batch_size: 4, learning_rate: 1.0e-4, logging_steps: 1}}\n"
)
RUN = "arithmetic-1"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recipe, which mixes, and a version."""
    folder = tmp_path_factory.mktemp("built") / "project"
    recipe = copied(folder, 60)
    recipe.write_text(recipe.read_text().replace("n: 8", "n: 4") + TRAIN)
    assert run(folder, ["build", "recipe.yaml"]) == 0, (folder / "output.txt").read_text()
    return folder


@pytest.fixture(scope="module")
def whole(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole") / "project"
    shutil.copytree(built, folder)
    assert run(folder, ["train", "recipe.yaml"]) == 0, (folder / "output.txt").read_text()
    return folder


def run_of(folder: Path) -> Run:
    return Runs(Workspace.open(folder).root).get(RUN)


def weights(folder: Path) -> str:
    outcome = run_of(folder).outcome
    assert outcome is not None, (folder / "output.txt").read_text()
    return outcome.weights


def served(folder: Path) -> list[dict[str, object]]:
    return [row for table in served_rows(run_of(folder).folder / "recording") for row in table.to_pylist()]


def forget_versions(folder: Path) -> None:
    shutil.rmtree(Workspace.open(folder).root / "versions")
    shutil.rmtree(Workspace.open(folder).root / "facts")


def test_every_step_trains_on_half_live_rows_and_half_rows_of_the_version(whole: Path) -> None:
    rows = served(whole)
    version = Workspace.open(whole).versions.get("arithmetic@v1").frame("train").collect()
    stored = set(version["pair_id"].to_list())
    assert len(rows) == 5 * 4
    for step in range(5):
        batch = rows[4 * step : 4 * step + 4]
        assert Counter(row["row_id"] in stored for row in batch) == {True: 2, False: 2}
        assert Counter(row["policy_version"] for row in batch) == {None: 2, step - step % 2: 2}
    log = [json.loads(line) for line in (run_of(whole).folder / "metrics.jsonl").read_text().splitlines()]
    shares = {(entry["stream/mix/live"], entry["stream/mix/arithmetic@v1"]) for entry in log if "loss" in entry}
    assert shares == {(0.5, 0.5)}
    assert run_of(whole).record.data == "live + arithmetic@v1"


@pytest.mark.parametrize(
    ("place", "nth", "after"),
    [
        ("step", 3, True),  # after a checkpoint on a sync, before the next
        ("record", 4, True),  # rows are recorded to be served and are not
        ("frame", 7, False),  # half of a frame is written
        ("sync", 2, True),  # in the sync, before it is recorded
        ("optimizer", 2, False),  # in the middle of a checkpoint
    ],
)
def test_mixed_run_killed_and_resumed_without_the_version_is_the_run_that_was_not(
    built: Path, whole: Path, tmp_path: Path, place: str, nth: int, after: bool
) -> None:
    folder = tmp_path / "project"
    shutil.copytree(built, folder)
    assert run(folder, ["train", "recipe.yaml"], place, nth, after) == KILLED, (folder / "output.txt").read_text()
    forget_versions(folder)
    assert run(folder, ["train", "--resume", RUN]) == 0, (folder / "output.txt").read_text()
    assert weights(folder) == weights(whole)
    assert served(folder) == served(whole)


def test_replay_of_a_mixed_run_gives_the_same_weights_without_sampler_and_versions(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(whole, folder)
    forget_versions(folder)
    for file in ("prompts", "data-arithmetic@v1", "rows-arithmetic@v1"):
        (run_of(folder).folder / f"{file}.arrow").unlink()
    assert run(folder, ["replay", RUN, "--json"], place="draw") == 0, (folder / "output.txt").read_text()
    assert '"same_weights": true' in (folder / "output.txt").read_text()


def test_version_from_a_mixed_run_has_the_rows_that_it_sampled(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(whole, folder)
    assert run(folder, ["build", "--from-run", RUN, "--name", "online"]) == 0, (folder / "output.txt").read_text()
    version = Workspace.open(folder).versions.get("online")
    sampled = [row["row_id"] for row in served(folder) if row["policy_version"] is not None]
    assert version.frame("train").collect()["pair_id"].to_list() == sampled
    account = {a.stage: a for a in version.ledger}["serve"]
    assert (account.outcomes["served"], account.kept) == (10, 10)


def test_mix_of_versions_alone_needs_no_sampler(built: Path, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(built, folder)
    overrides = ["--set", "train.sync_period=null", "--set", "train.mix={arithmetic: 1}"]
    assert run(folder, ["train", "recipe.yaml", *overrides], place="draw") == 0, (folder / "output.txt").read_text()
    assert {row["policy_version"] for row in served(folder)} == {None}
    assert len(served(folder)) == 5 * 4
