"""`prefkit eval`, as it is typed and read."""

import json
from pathlib import Path

import pytest

from prefkit.cli import main
from tests.pipeline.scripted import Said, failed, said, scripted_policy, use_scripts

SUM, PRODUCT = "What is 1 + 2?", "What is 1 * 5?"
RECIPE = """\
name: small
prompts: {imported: sums}
policy: {model: start}
sample: {backend: transformers, n: 8}
score:
  - {kind: verifier, name: exact}
select: {kind: correct_vs_incorrect}
"""
EVAL = ("eval", "recipe.yaml", "--policy", "moved", "--n", "2")


@pytest.fixture(autouse=True)
def two_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Two policies and a held-out prompt of each of two sources."""
    use_scripts(monkeypatch)
    monkeypatch.chdir(tmp_path)
    moved: dict[str, list[Said]] = {
        SUM: [said("3", [2, 4], -0.1), said("3", [2], -0.3)],
        PRODUCT: [said("5", [8, 1, 1], -0.2), said("1", [3], -0.1, finish="length")],
    }
    start: dict[str, list[Said]] = {SUM: [said("3"), said("4")], PRODUCT: [said("5"), failed()]}
    scripted_policy(tmp_path / "moved", moved)
    scripted_policy(tmp_path / "start", start)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "sums.jsonl").write_text(json.dumps({"prompt": SUM, "answer": "3", "split": "test"}))
    (tmp_path / "products.jsonl").write_text(json.dumps({"prompt": PRODUCT, "answer": "5", "split": "test"}))
    assert main(["init", "."]) == 0
    assert main(["import", "sums.jsonl", "--as", "prompts"]) == 0
    assert main(["import", "products.jsonl", "--as", "prompts", "--prompts-from", "sums"]) == 0
    capsys.readouterr()


def read(capsys: pytest.CaptureFixture[str], *more: str) -> str:
    assert main([*EVAL, *more]) == 0
    return capsys.readouterr().out


def test_eval_shows_both_sides_their_difference_each_source_and_who_wins(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [" ".join(line.split()) for line in read(capsys).splitlines()]
    assert lines[0] == "moved against start: 2 held-out prompts, 2 completions of each"
    table = {line.partition("[")[0].strip(): line for line in lines if "[" in line}
    assert "exact, accuracy 75.0 %" in table
    assert table["reward 0.75"].startswith("reward 0.75 [0.5, 1] 0.667 [0.5, 1]")
    assert "failed 0.0 %" in table
    assert "cut 25.0 %" in table
    assert "KL from the start (nats), k1 0.225" in table
    assert "reward by source moved start difference win rate prompts" in lines
    assert "sums 1 0.5 0.5 75.0 % 1" in lines  # of one prompt there is no interval
    assert lines[-2].endswith(": 2 won, 3 tied, 1 lost by scores")
    assert lines[-1] == "8 drawn, 7 labelled, 4 log-probs"


def test_eval_as_json_has_the_numbers_of_every_scope(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(read(capsys, "--json"))
    assert found["policy"]["name"] == "moved"
    assert found["overall"]["aspects"]["exact"]["policy"]["value"] == 0.75
    assert found["overall"]["divergence"]["policy"]["k1"]["value"] == 0.225
    assert found["sources"]["products"]["failed"]["baseline"]["value"] == 0.5
    assert found["sources"]["sums"]["reward"]["policy"]["low"] is None
    assert found["computed"]["spent"] == {"tokens": 0, "usd": 0.0}


def test_eval_of_sharpened_policies_says_that_the_log_ratio_is_no_divergence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = read(capsys, "--set", "sample.temperature=0.7", "--limit", "1")
    assert "1 held-out prompt," in told
    assert "KL from the start" not in told
    assert "no KL of the policy: for that, sample at temperature 1" in told


def test_eval_without_a_policy_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "recipe.yaml"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--policy" in error
