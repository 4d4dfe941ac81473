"""What `prefkit runs` says of runs that ended, that go on and that were stopped."""

import json
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from prefkit.cli import main
from prefkit.cli.runs import age
from prefkit.store.runs import Run, RunOutcome, RunRecord, Runs
from prefkit.store.workspace import Workspace
from prefkit.stream.events import Start
from prefkit.stream.recording import Recorder

LOGGED = (
    {"step": 1, "loss": 0.7, "stream/reward": 0.25},
    {"step": 2, "loss": 0.6, "stream/reward": None},
    {"step": 2, "train_runtime": 3.0},
)


def begun(workspace: Workspace, name: str, hours: float, sync_period: float | None, **args: int) -> Run:
    """A run that began so many hours ago and has logged two steps, the last line of which was cut short."""
    run = Runs(workspace.root).prepare(name)
    train = {"sync_period": sync_period, "reference": "behavior", "args": args}
    created = datetime.now(UTC) - timedelta(hours=hours)
    run.begin(RunRecord("0", "dpo", {"train": train}, "/", "p", None, created.isoformat(timespec="seconds")))
    lines = [json.dumps(line) for line in LOGGED]
    (run.folder / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 3, "lo']))
    return run


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    workspace = Workspace.create(tmp_path)
    begun(workspace, "first", 50, None).end(RunOutcome(5, "ab", {"loss": 0.5}))
    begun(workspace, "second", 3.5, 10, max_steps=1200)
    return workspace


def row(told: str, name: str) -> list[str]:
    [line] = [line for line in told.splitlines() if line.startswith(name)]
    return line.split()


def test_runs_that_ended_and_that_were_stopped_are_told_with_their_last_numbers(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs"]) == 0
    told = capsys.readouterr().out
    assert row(told, "first") == ["first", "dpo,", "behavior", "5", "0.5", "2", "d"]
    assert row(told, "second") == [
        "second", "dpo,", "behavior", "10", "2/1,200", "stopped", "0.25", "0.6", "3", "h",
    ]  # fmt: skip


def test_run_whose_recording_is_open_is_running(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Runs(workspace.root).get("second").folder / "recording"
    with closing(Recorder.begin(folder, Start("0", 0))):
        assert entries(capsys)["second"]["state"] == "running"
    assert entries(capsys)["second"]["state"] == "stopped"
    assert entries(capsys)["second"]["steps"] == 2
    assert entries(capsys)["second"]["metrics"] == {"loss": 0.6, "stream/reward": 0.25}


def entries(capsys: pytest.CaptureFixture[str]) -> Mapping[str, Mapping[str, object]]:
    assert main(["runs", "--json"]) == 0
    return {entry["run"]: entry for entry in json.loads(capsys.readouterr().out)}


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, "now"), (119, "now"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (172_800, "2 d")]
)
def test_age_has_one_unit(seconds: int, told: str) -> None:
    assert age(seconds) == told
