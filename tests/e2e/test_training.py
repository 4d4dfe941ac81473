"""Training on the bundled policy: what is recorded is what is trained on, replayed and gone on with, bit for bit."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from prefkit.store.runs import Runs
from prefkit.store.workspace import Workspace
from prefkit.stream.events import NewRows, Start
from prefkit.stream.recording import Recorder, chain
from prefkit.stream.replay import served_rows
from tests.e2e.killed import KILLED, run
from tests.e2e.test_demo import copied

pytest.importorskip("trl")
pytest.importorskip("math_verify")

TRAIN = (
    "train: {method: dpo, sync_period: 3, reference: behavior, prompts: 6, args: {max_steps: 7, save_steps: 2, "
    "per_device_train_batch_size: 4, learning_rate: 1.0e-4, beta: 0.1, logging_steps: 1}}\n"
)
RUN = "arithmetic-1"


def workspace(folder: Path, *lines: str) -> Path:
    """A folder with a workspace, the policy, and the recipe with a `train` block."""
    recipe = copied(folder, 60)
    text = recipe.read_text().replace("n: 8", "n: 4")
    recipe.write_text(text + TRAIN + "".join(lines))
    return folder


def trained(folder: Path, *overrides: str) -> Path:
    """Trains to the end in a workspace of its own."""
    code = run(workspace(folder), ["train", "recipe.yaml", *_set(overrides)])
    assert code == 0, (folder / "output.txt").read_text()
    return folder


def _set(overrides: Sequence[str]) -> list[str]:
    return [part for override in overrides for part in ("--set", override)]


def weights(folder: Path, run_name: str = RUN) -> str:
    """Digest of the final weights."""
    outcome = Runs(Workspace.open(folder).root).get(run_name).outcome
    assert outcome is not None, (folder / "output.txt").read_text()
    return outcome.weights


def recording(folder: Path) -> Path:
    return Runs(Workspace.open(folder).root).get(RUN).folder / "recording"


def served(folder: Path) -> list[dict[str, object]]:
    return [row for table in served_rows(recording(folder)) for row in table.to_pylist()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    return trained(tmp_path_factory.mktemp("whole") / "run")


def test_train_semi_online_starts_at_log_2_and_again_after_every_sync(whole: Path) -> None:
    log = (Runs(Workspace.open(whole).root).get(RUN).folder / "metrics.jsonl").read_text().splitlines()
    losses = {entry["step"]: entry["loss"] for entry in map(json.loads, log) if "loss" in entry}
    # Right after a sync the policy is its own reference, whatever it was sampled at.
    assert [losses[step] for step in (1, 4, 7)] == pytest.approx([0.693147] * 3, abs=1e-5)
    assert abs(losses[3] - 0.693147) > 1e-5


def test_train_serves_every_row_once(whole: Path) -> None:
    ids = [row["row_id"] for row in served(whole)]
    assert len(ids) == len(set(ids)) == 7 * 4


def test_replay_gives_the_same_weights_without_sampler_scorers_and_prompts(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    (folder / "problems.jsonl").unlink()
    (Runs(Workspace.open(folder).root).get(RUN).folder / "prompts.arrow").unlink()
    shutil.rmtree(Workspace.open(folder).root / "facts")
    text = (folder / ".prefkit" / "runs" / RUN / "run.json").read_text()
    (folder / ".prefkit" / "runs" / RUN / "run.json").write_text(text.replace(str(whole), str(folder)))
    # A replay that drew anything would end at once.
    assert run(folder, ["replay", RUN, "--json"], place="draw") == 0, (folder / "output.txt").read_text()
    assert '"same_weights": true' in (folder / "output.txt").read_text()


def test_replay_of_one_flipped_label_gives_other_weights(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    _rewrite(recording(folder), flipped_row=5)
    assert run(folder, ["replay", RUN, "--json"]) == 0
    assert '"same_weights": false' in (folder / "output.txt").read_text()


def test_replay_of_one_flipped_byte_stops_with_the_frame(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    file = recording(folder) / "0-0.arrows"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert run(folder, ["replay", RUN]) == 1
    assert "0-0.arrows: frame " in (folder / "output.txt").read_text().splitlines()[-1]


@pytest.mark.parametrize(
    ("place", "nth", "after"),
    [
        ("step", 1, True),  # before the first checkpoint
        ("step", 5, True),  # between two syncs, after a checkpoint off a boundary
        ("step", 6, True),  # a checkpoint that falls on a sync
        ("record", 4, True),  # a micro-batch is recorded and not served
        ("frame", 6, False),  # half of a frame is written
        ("sync", 2, False),  # in the sync, before the sampler has the weights
        ("sync", 2, True),  # in the sync, before it is recorded
        ("state", 2, False),  # in the middle of a state
        ("checkpoint", 2, False),  # the state is there and the checkpoint is not
        ("optimizer", 2, False),  # in the middle of a checkpoint
        ("rotation", 2, False),  # the checkpoint is complete and old ones are not cleared away
    ],
)
def test_run_killed_and_resumed_is_the_run_that_was_not(
    whole: Path, tmp_path: Path, place: str, nth: int, after: bool
) -> None:
    folder = workspace(tmp_path / "run")
    assert run(folder, ["train", "recipe.yaml"], place, nth, after) == KILLED, (folder / "output.txt").read_text()
    assert run(folder, ["train", "--resume", RUN]) == 0, (folder / "output.txt").read_text()
    assert weights(folder) == weights(whole)
    assert served(folder) == served(whole)


def test_run_with_accumulation_and_one_checkpoint_killed_twice_is_the_run_that_was_not(tmp_path: Path) -> None:
    overrides = (
        "train.args.gradient_accumulation_steps=2",
        "train.args.per_device_train_batch_size=2",
        "train.args.save_total_limit=1",
        "train.reference=reset",
        "train.reference_reset_period=4",
    )
    whole = trained(tmp_path / "whole", *overrides)
    folder = workspace(tmp_path / "run")
    assert run(folder, ["train", "recipe.yaml", *_set(overrides)], "optimizer", 2) == KILLED
    assert run(folder, ["train", "--resume", RUN], "step", 3, after=True) == KILLED
    assert run(folder, ["train", "--resume", RUN]) == 0, (folder / "output.txt").read_text()
    assert weights(folder) == weights(whole)
    assert served(folder) == served(whole)


def test_version_from_a_run_has_the_rows_that_were_trained_on(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    assert run(folder, ["build", "--from-run", RUN, "--name", "online-math"]) == 0
    assert run(folder, ["build", "--from-run", RUN, "--name", "online-math"]) == 0
    versions = Workspace.open(folder).versions
    assert [v.label for v in versions.all("online-math")] == ["online-math@v1"]
    version = versions.get("online-math")
    rows = version.frame("train").collect()
    assert rows["pair_id"].to_list() == [row["row_id"] for row in served(folder)]
    assert (rows["score_margin"] == 1.0).all()
    assert rows["prompt"].null_count() == rows["chosen"].null_count() == rows["answer"].null_count() == 0
    assert rows["chosen_token_ids"].to_list() == [row["chosen_ids"] for row in served(folder)]
    account = {a.stage: a for a in version.ledger}["serve"]
    assert account.outcomes["served"] == 28


def _rewrite(folder: Path, flipped_row: int) -> None:
    """Records the same events anew, with chosen and rejected of one row exchanged."""
    events = [frame.event for frame in chain(folder)]
    (folder / "0-0.arrows").unlink()
    start = events[0]
    assert isinstance(start, Start)
    with Recorder.begin(folder, start) as recorder:
        for event in events[1:]:
            if isinstance(event, NewRows) and 0 <= flipped_row - event.first_row < event.batch.rows.num_rows:
                event = _flipped(event, flipped_row - event.first_row)
            recorder.append(event)


def _flipped(event: NewRows, place: int) -> NewRows:
    rows = event.batch.rows.to_pylist()
    row = rows[place]
    for form in ("{}_ids", "ref_{}_logps"):
        chosen, rejected = form.format("chosen"), form.format("rejected")
        row[chosen], row[rejected] = row[rejected], row[chosen]
    table = pa.Table.from_pylist(rows, event.batch.rows.schema)
    return replace(event, batch=replace(event.batch, rows=table))
