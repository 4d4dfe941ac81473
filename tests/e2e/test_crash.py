import json
import random
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.crash import Kill, prepared, random_kill, run_child, trial

NAMED = [
    Kill("fragments", 5, before=True),  # before a fact commit
    Kill("append_durably", 9, before=False),  # data written, not committed
    Kill("commit", 12, before=True),
    Kill("commit", 20, before=False),  # committed, not acknowledged
    Kill("fsync", 30, before=False),
    Kill("merge", 1, before=True),  # in a compaction
    Kill("merge", 2, before=False),
    Kill("replace", 1, before=True),  # the manifest of a version
    Kill("rename", 1, before=True),  # the rename that publishes a version
    Kill("rename", 1, before=False),
]
RANDOM = 15


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = prepared(tmp_path_factory.mktemp("reference"))
    assert run_child(folder, None)
    return folder


@pytest.mark.parametrize("kill", NAMED, ids=str)
def test_build_killed_at_a_named_point_ends_as_if_never_killed(tmp_path: Path, reference: Path, kill: Kill) -> None:
    seen = trial(tmp_path / "trial", [kill], reference)
    assert seen.died == 1
    assert seen.passed, seen


@pytest.mark.parametrize("seed", range(RANDOM))
def test_build_killed_at_random_ends_as_if_never_killed(tmp_path: Path, reference: Path, seed: int) -> None:
    calls = Counter(json.loads((reference / "calls.json").read_text()))
    # A build takes longer than half a second, so a kill at a random time strikes as surely as one at a call.
    seen = trial(tmp_path / "trial", [random_kill(random.Random(seed), calls, 500)], reference)
    assert seen.died == 1
    assert seen.passed, seen
