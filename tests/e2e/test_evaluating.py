"""The bundled recipe: a run trains for two steps, and its final model is compared with the start."""

import json
from pathlib import Path

import pytest

from prefkit.store.runs import Runs
from prefkit.store.workspace import Workspace
from tests.e2e.killed import run
from tests.e2e.test_training import RUN, workspace

pytest.importorskip("trl")
pytest.importorskip("math_verify")

HELD_OUT = ["--set", "split.test=0.1"]
TRAIN = ["train", "recipe.yaml", *HELD_OUT, "--set", "train.args.max_steps=2", "--set", "train.args.save_strategy=no"]
EVAL = ["eval", "recipe.yaml", *HELD_OUT, "--policy", RUN, "--n", "2", "--limit", "3"]


def printed(folder: Path, command: list[str]) -> str:
    output = folder / "output.txt"
    before = len(output.read_text())
    code = run(folder, command)
    said = output.read_text()[before:]
    assert code == 0, said
    return said


def test_eval_compares_the_final_model_of_a_run_with_the_start_and_keeps_the_result(tmp_path: Path) -> None:
    folder = workspace(tmp_path / "run")
    assert run(folder, TRAIN) == 0, (folder / "output.txt").read_text()
    first = printed(folder, EVAL)
    assert f"{RUN} against start: 3 held-out prompts, 2 completions of each" in first
    assert "12 drawn, 12 labelled, 6 log-probs" in first
    again = printed(folder, EVAL)
    assert "0 drawn, 0 labelled, 0 log-probs" in again
    kept = (Runs(Workspace.open(folder).root).get(RUN).folder / "evaluations.jsonl").read_text().splitlines()
    one, other = (json.loads(line)["overall"] for line in kept)
    assert one == other
    # Two steps at this rate move the policy, but hardly.
    assert 0 < one["divergence"]["policy"]["k3"]["value"] < 1
    assert one["wins"]["wins"] + one["wins"]["ties"] + one["wins"]["losses"] == 3 * 2 * 2
