"""Two processes train the bundled policy on the rows of one, and go on after both were killed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from prefkit.pipeline.recipe import Recipe
from prefkit.pipeline.recipe_file import load_recipe
from prefkit.pipeline.training.running import RunStart, started_run
from prefkit.store.runs import Run, Runs
from prefkit.store.workspace import Workspace
from prefkit.stream.events import NewRows
from prefkit.stream.recording import chain
from prefkit.stream.replay import served_rows
from tests.e2e.killed import run
from tests.e2e.ranks import KILLED, end_of, launch, output_of
from tests.e2e.test_demo import copied

pytest.importorskip("trl")
pytest.importorskip("math_verify")

STEPS, BATCH = 5, 2
TRAIN = (
    f"train: {{method: dpo, sync_period: 2, reference: behavior, prompts: 4, args: {{max_steps: {STEPS}, "
    f"save_steps: 3, per_device_train_batch_size: {BATCH}, learning_rate: 1.0e-4, logging_steps: 1}}}}\n"
)
FILE = "model.safetensors"
ROOT = Path(__file__).parents[2]


def run_of(folder: Path, name: str) -> Run:
    return Runs(Workspace.open(folder).root).get(name)


def weights(folder: Path, name: str) -> str:
    outcome = run_of(folder, name).outcome
    assert outcome is not None
    return outcome.weights


def served(folder: Path, name: str) -> list[dict[str, object]]:
    return [row for table in served_rows(run_of(folder, name).folder / "recording") for row in table.to_pylist()]


def drawn(folder: Path, name: str) -> list[tuple[int, int, int]]:
    """Cursor, policy version and number of rows of every micro-batch."""
    batches = [f.event.batch for f in chain(run_of(folder, name).folder / "recording") if isinstance(f.event, NewRows)]
    return [(batch.cursor, batch.policy_version, batch.rows.num_rows) for batch in batches]


def succeeded(folder: Path, arguments: Sequence[str], size: int = 2) -> None:
    assert launch(folder, arguments, size) == [0] * size, [output_of(folder, rank) for rank in range(size)]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two processes have trained the run `whole`."""
    folder = tmp_path_factory.mktemp("pair") / "folder"
    recipe = copied(folder, 60)
    recipe.write_text(recipe.read_text().replace("n: 8", "n: 4") + TRAIN)
    succeeded(folder, ["recipe.yaml", "--run", "whole"])
    return folder


def model_of(folder: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(run_of(folder, name).folder / "model" / FILE)


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return sum((one[name] - other[name]).square().sum().item() for name in one) ** 0.5


def learned(folder: Path) -> float:
    """How far the run `whole` went from its start."""
    return distance(model_of(folder, "whole"), load_file(folder / "policy" / FILE))


def in_one_process(folder: Path) -> None:
    """The run `whole` again under its own id, by one process that reads what the two did together."""
    one, record = Runs(Workspace.open(folder).root).prepare("one"), run_of(folder, "whole").record
    recipe = Recipe.model_validate(record.recipe)
    assert recipe.train is not None
    train = recipe.train.model_copy(update={"args": recipe.train.args | {"per_device_train_batch_size": 2 * BATCH}})
    one.keep("prompts", run_of(folder, "whole").kept("prompts"))
    recipe = recipe.model_copy(update={"train": train})
    one.begin(replace(record, ranks=1, recipe=recipe.model_dump(mode="json")))
    succeeded(folder, ["--resume", "one"], size=1)


def test_two_processes_share_the_rows_and_end_with_equal_weights(pair: Path) -> None:
    ends = [end_of(pair, rank) for rank in range(2)]
    assert ends[0]["weights"] == ends[1]["weights"] == weights(pair, "whole")
    rows = [end["rows"] for end in ends]
    assert [len(own) for own in rows] == [STEPS * BATCH] * 2  # type: ignore[arg-type]
    chunks = [id for at in range(0, STEPS * BATCH, BATCH) for own in rows for id in own[at : at + BATCH]]  # type: ignore[index]
    assert chunks == [row["row_id"].hex() for row in served(pair, "whole")]  # type: ignore[attr-defined]
    assert len(set(chunks)) == STEPS * BATCH * 2


def test_run_of_two_processes_has_another_id_than_that_of_one(pair: Path) -> None:
    """Batches decide rows and weights, and the id is in the ids of all that the run samples."""
    start, workspace = RunStart(load_recipe(pair / "recipe.yaml"), pair), Workspace.open(pair)
    alone, both = (started_run(replace(start, ranks=n, name=f"begun-{n}"), workspace) for n in (1, 2))
    assert both.record.id == run_of(pair, "whole").record.id != alone.record.id


def test_two_processes_tell_what_happens_once(pair: Path) -> None:
    assert "5 steps" in output_of(pair, 0)
    assert "step" not in output_of(pair, 1)


def test_two_processes_train_on_the_rows_of_one_with_twice_the_batch(pair: Path) -> None:
    in_one_process(pair)
    assert drawn(pair, "one") == drawn(pair, "whole")
    assert [row["row_id"] for row in served(pair, "one")] == [row["row_id"] for row in served(pair, "whole")]
    # Gradients are added up in another order, and Adam divides by their size: where they are next to nothing, so that
    # they are rounding alone, a weight goes elsewhere. Those are few.
    assert distance(model_of(pair, "one"), model_of(pair, "whole")) < 1e-3 * learned(pair)


def test_two_processes_are_replayed_by_one_in_as_many_steps(pair: Path) -> None:
    assert run(pair, ["replay", "whole", "--to", "replayed"]) == 0, (pair / "output.txt").read_text()
    said = (pair / "output.txt").read_text()
    assert "5 steps, other weights than the run's, of which 2 processes added up the gradients" in said
    assert distance(load_file(pair / "replayed" / "model" / FILE), model_of(pair, "whole")) < 1e-3 * learned(pair)


def test_two_processes_killed_and_resumed_are_the_run_that_was_not(pair: Path) -> None:
    assert KILLED in launch(pair, ["recipe.yaml", "--run", "killed"], 2, killed_at=STEPS)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*torchrun, "-m", "prefkit_trainers", "--resume", "killed"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=pair, env=environment, check=True, capture_output=True, text=True, timeout=280)
    assert "5 steps, from step 3" in done.stdout
    assert weights(pair, "killed") == weights(pair, "whole")
    assert served(pair, "killed") == served(pair, "whole")


def test_mistake_of_a_recipe_ends_all_processes_in_a_line(pair: Path) -> None:
    before = [len(output_of(pair, rank)) for rank in range(2)]
    assert launch(pair, ["recipe.yaml", "--set", "train.sync_period=0.5"], 2) == [2, 2]
    said = [output_of(pair, rank)[before[rank] :].splitlines() for rank in range(2)]
    assert [line for line in said[0] if line.startswith("error: ")] == said[0][-1:]


def test_run_of_two_processes_is_not_resumed_by_one(pair: Path) -> None:
    shutil.copytree(run_of(pair, "whole").folder, Workspace.open(pair).root / "runs" / "stopped")
    (run_of(pair, "stopped").folder / "outcome.json").unlink()
    assert launch(pair, ["--resume", "stopped"], 1) == [2]
    assert "was begun by 2 processes, got 1" in output_of(pair, 0).splitlines()[-1]
