"""The main promise of the check: pairs of another policy are told apart, and regenerating makes them fit.

On the problems of the demo: the other policy speaks in words of its own, the demo's policy samples anew, and the same
verifier labels both.
"""

import json
from pathlib import Path

import pytest

from prefkit.cli import main
from prefkit.pipeline.rebuild import rebuild
from tests.pipeline.shifted import built, policy_workspace, verily

pytest.importorskip("transformers")
pytest.importorskip("math_verify")

PROBLEMS = 160


def test_pairs_of_another_policy_are_regenerated_until_they_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = policy_workspace(tmp_path)
    old = built(workspace, verily(workspace, PROBLEMS)).version
    told = ["regenerate", old.label, "--policy", str(tmp_path / "policy"), "--workspace", str(tmp_path)]
    assert main([*told, "--max-new-tokens", "64"]) == 0
    said = capsys.readouterr().out
    assert "verily@v2, from verily@v1: " in said
    assert [line.split() for line in said.splitlines() if line.startswith("dropped")] == [["dropped", str(PROBLEMS)]]
    before, after = (line for line in said.splitlines() if "off-support" in line)
    assert before.startswith("verily@v1: 100.0% of chosen off-support, 100.0% of rejected off-support")
    assert before.endswith("regenerate")
    assert after.startswith("verily@v2: ")
    assert after.endswith("fine")

    new = workspace.versions.get("verily@v2")
    assert new.content["parents"] == ["verily@v1"]
    assert main(["check", new.label, "--reference", "policy", "--json", "--workspace", str(tmp_path)]) == 0
    off = {
        side["side"]: side["off_support"]["value"] for side in json.loads(capsys.readouterr().out)["overall"]["sides"]
    }
    # Wrong answers are the rarer ones, so of the rejected a few per cent are beyond the range that 99 % of all are in.
    assert off["chosen"] <= 0.02
    assert (off["chosen"] + off["rejected"]) / 2 <= 0.03
    rows = new.frame().collect()
    assert rows.height >= PROBLEMS // 2
    for row in rows.iter_rows(named=True):
        right = [row[side][0]["content"].rstrip(".").split()[-1] == row["answer"] for side in ("chosen", "rejected")]
        assert right == [True, False]
    assert rebuild(new, workspace) == []
