"""A build that pays for judge calls, killed while calls are in flight."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from prefkit.pipeline.build import build
from prefkit.pipeline.recipe import Recipe
from prefkit.store.workspace import Workspace
from prefkit.testing import FakeEndpoint, Script
from tests.pipeline.builders import problems, write_problems

CONCURRENCY = 4
BATCH_OF_A_COMMIT = 2 * CONCURRENCY + 3
"""Calls that can have been answered and not stored: those in flight, and those that lie ready for the caller."""

BUILD = """
from pathlib import Path
from prefkit.pipeline.build import build
from prefkit.pipeline.recipe import Recipe
from prefkit.store.workspace import Workspace

here = Path(".")
build(Recipe.model_validate_json(Path("recipe.json").read_text()), Workspace.open(here), here)
"""


def recipe(url: str, **changes: object) -> Recipe:
    judge = {
        "kind": "judge", "mode": "aspects", "aspects": ["helpfulness"], "endpoint": url, "model": "judge",
        "revision": "r1", "concurrency": CONCURRENCY, **changes,
    }  # fmt: skip
    return Recipe.model_validate(
        {
            "name": "judged",
            "prompts": {"path": "problems.jsonl"},
            "sample": {"backend": "fake", "n": 5},
            "score": [judge],
            "select": {"kind": "best_vs_worst"},
        }
    )


def workspace_of(folder: Path) -> Workspace:
    """A workspace beside a file of problems."""
    folder.mkdir(exist_ok=True)
    write_problems(folder, problems(20))
    return Workspace.create(folder)


def started(folder: Path, asked: Recipe) -> "subprocess.Popen[bytes]":
    """A build of the recipe in a process of its own."""
    (folder / "recipe.json").write_text(asked.model_dump_json())
    return subprocess.Popen([sys.executable, "-c", BUILD], cwd=folder)


def killed_when(child: "subprocess.Popen[bytes]", ready: Callable[[], bool]) -> None:
    """Waits until it is time, and kills the process."""
    while not ready() and child.poll() is None:
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL


def test_build_killed_among_judge_calls_repeats_at_most_those_in_flight(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path)
    with FakeEndpoint(Script(latency_s=0.02)) as endpoint:
        killed_when(started(tmp_path, recipe(endpoint.url)), lambda: len(endpoint.requests) >= 30)
        time.sleep(0.2)  # what was in flight arrives
        asked = len(endpoint.requests)
        done = build(recipe(endpoint.url), workspace, tmp_path)
        in_all = len(endpoint.requests)
    account = next(a for a in done.version.ledger if a.stage == "score")
    assert account.outcomes == {"scored": account.planned}
    assert 30 <= asked < account.planned
    assert in_all - account.planned <= BATCH_OF_A_COMMIT


def test_build_killed_while_its_batch_is_under_way_takes_the_results_and_submits_nothing_again(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path)
    with FakeEndpoint(Script(batch_s=1.0)) as endpoint:
        batched = recipe(endpoint.url, transport="batch", poll_s=0.05)
        killed_when(started(tmp_path, batched), lambda: bool(endpoint.batches.submitted))
        assert workspace.versions.newest("judged") is None
        done = build(batched, workspace, tmp_path)
        assert len(endpoint.batches.submitted) == 1
        undisturbed = build(batched, workspace_of(tmp_path / "other"), tmp_path / "other")
    assert done.version.manifest["content_hash"] == undisturbed.version.manifest["content_hash"]
    assert list(workspace.batches("judged").iterdir()) == []
