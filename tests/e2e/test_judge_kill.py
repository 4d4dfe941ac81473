"""A build that pays for judge calls, killed while calls are in flight."""

import signal
import subprocess
import sys
import time
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


def recipe(url: str) -> Recipe:
    judge = {
        "kind": "judge", "mode": "aspects", "aspects": ["helpfulness"], "endpoint": url, "model": "judge",
        "revision": "r1", "concurrency": CONCURRENCY,
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


def test_build_killed_among_judge_calls_repeats_at_most_those_in_flight(tmp_path: Path) -> None:
    write_problems(tmp_path, problems(20))
    workspace = Workspace.create(tmp_path)
    with FakeEndpoint(Script(latency_s=0.02)) as endpoint:
        (tmp_path / "recipe.json").write_text(recipe(endpoint.url).model_dump_json())
        child = subprocess.Popen([sys.executable, "-c", BUILD], cwd=tmp_path)
        while len(endpoint.requests) < 30 and child.poll() is None:
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        child.wait()
        time.sleep(0.2)  # what was in flight arrives
        asked = len(endpoint.requests)
        done = build(recipe(endpoint.url), workspace, tmp_path)
        in_all = len(endpoint.requests)
    account = next(a for a in done.version.ledger if a.stage == "score")
    assert child.returncode == -signal.SIGKILL
    assert account.outcomes == {"scored": account.planned}
    assert 30 <= asked < account.planned
    assert in_all - account.planned <= BATCH_OF_A_COMMIT
