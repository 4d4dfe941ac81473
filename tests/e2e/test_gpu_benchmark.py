"""`benchmarks/gpu.py --smoke`: everything it does, tiny, where Lance and the engines of others are not installed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("trl")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MISSING = ("lance", "pylance", "vllm", "openai", "ray", "argilla", "matplotlib", "math_verify")
STARTED = "import runpy, sys; sys.modules |= dict.fromkeys({missing}); runpy.run_path({file!r}, run_name='__main__')"


def test_smoke_measures_every_stage_without_lance(tmp_path: Path) -> None:
    target = tmp_path / "gpu.json"
    started = STARTED.format(missing=MISSING, file=str(BENCHMARKS / "gpu.py"))
    command = [sys.executable, "-c", started, "--smoke", "--json", str(target)]
    subprocess.run(command, check=True, env={"PYTHONPATH": str(BENCHMARKS), "OMP_NUM_THREADS": "1"}, cwd=tmp_path)
    told = json.loads(target.read_text())
    assert told["plan"]["params"] == "tiny"
    assert len(told["rounds"]) == 3
    for measured in told["rounds"]:
        for stage in ("sampling", "reference", "dpo"):
            assert measured[stage]["tokens_per_second"] > 0
            assert 0 < measured[stage]["share_of_peak"] < 1
            assert measured[stage]["peak_mb"] > 0
        runs = {run["sync_period"]: run for run in measured["live"]}
        assert runs.keys() == {1, 4, 16, "inf"}
        for run in runs.values():
            assert sum(run["shares"].values()) == pytest.approx(1, abs=0.01)
            assert run["shares"].keys() >= {"sample", "score", "train", "record", "digest"}
            assert run["steps_per_second"] > 0
    assert told["medians"].keys() == {"sampling", "reference", "dpo"}
