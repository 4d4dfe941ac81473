"""A version checked against models that are and are not where it came from."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest

from prefkit.cli import main
from prefkit.cli.check import asked_yardstick
from prefkit.pipeline.check.checking import check
from prefkit.pipeline.check.stage import Checked
from prefkit.pipeline.recipe import Recipe
from prefkit.records import COMPLETIONS, LOGPS, TRAINED
from prefkit.store.versions import Version
from prefkit.store.workspace import Workspace
from tests.pipeline.shifted import PROMPTS, Counting, built, imported, own, policy_workspace, problems, renumbered


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return policy_workspace(tmp_path_factory.mktemp("checked"))


@pytest.fixture(scope="module")
def sampled(workspace: Workspace) -> Version:
    """Single completions of the policy."""
    return built(workspace, own(name="sampled", select={"kind": "threshold", "desirable_at": 0.5}, check=None)).version


@pytest.fixture(scope="module")
def foreign(workspace: Workspace) -> Version:
    """Pairs of texts that the policy would never write."""
    rows = [
        {"q": p["question"], "a": p["answer"], "good": f"{i} it is, I dare say!", "bad": f"No idea; ask {i} others?"}
        for i, p in enumerate(problems())
    ]
    sides = {"a": {"text": "good"}, "b": {"text": "bad"}}
    imported(workspace, "foreign", rows, completions=sides, comparisons=[{"scorer": "=me", "preference": "=1"}])
    blocks: Mapping[str, object] = {
        "name": "foreign",
        "prompts": {"imported": "foreign"},
        "score": [{"kind": "imported", "scorer": "me"}],
        "select": {"kind": "comparisons"},
    }
    return built(workspace, Recipe.model_validate(blocks)).version


def policy_of(workspace: Workspace) -> str:
    return str(workspace.root.parent / "policy")


def checked(version: Version, workspace: Workspace, progress: Counting | None = None, **given: object) -> Checked:
    """Checked against the policy, unless another reference is given."""
    yardstick = asked_yardstick(version, workspace, {"reference": policy_of(workspace), "max_new_tokens": 64} | given)
    return check(version, workspace, yardstick, progress or Counting())


def command(workspace: Workspace, label: str, *arguments: str) -> int:
    given = () if "--reference" in arguments else ("--reference", policy_of(workspace))
    return main(["check", label, *given, *arguments, "--workspace", str(workspace.root.parent)])


def test_own_samples_fit_and_stored_logps_are_those_of_the_sampler(workspace: Workspace, sampled: Version) -> None:
    found = checked(sampled, workspace)
    (side,) = found.report.overall.sides
    assert found.report.verdict.kind == "fine"
    assert side.off_support.value <= 0.05
    rows = found.scores.rows
    assert (rows["logps"] - rows["sampling_logps"]).abs().max() == pytest.approx(0, abs=1e-4)


def test_sequence_kl_is_of_what_was_drawn_from_whatever_the_temperature(workspace: Workspace) -> None:
    """At T = 1.5 the weights are the reference's own, and what was drawn is not what the reference would write."""
    hot = {"backend": "transformers", "n": 4, "max_new_tokens": 64, "temperature": 1.5}
    recipe = own(name="hot", sample=hot, select={"kind": "threshold", "desirable_at": 0.5}, check=None)
    version = built(workspace, recipe).version
    (side,) = checked(version, workspace).report.overall.sides
    ids = version.frame().collect()["completion_id"]
    facts = workspace.facts.read(COMPLETIONS, ["id", "finish_reason", "sampling_logprobs", "behavior_logprobs"])
    sums = facts.filter(pl.col("id").is_in(ids.implode())).select(
        ratio=pl.col("sampling_logprobs").list.sum() - pl.col("behavior_logprobs").list.sum()
    )
    assert side.divergence is not None
    assert side.divergence.k1.value == pytest.approx(sums["ratio"].mean(), abs=1e-3)
    assert side.divergence.k1.value > 0.5
    assert side.divergence.effective_sample.value < 0.9


def test_yardstick_is_never_made_of_the_rows_themselves(workspace: Workspace, sampled: Version) -> None:
    """The version has the samples of seed 0, and so has the check."""
    found = checked(sampled, workspace, seed=0)
    own_samples = found.scores.samples.select("prompt", "logps")
    assert (
        found.scores.rows.join(own_samples, on=["prompt", "logps"], how="semi").height < 0.2 * found.scores.rows.height
    )


def test_log_ratio_of_a_completion_that_is_cut_is_unknown(workspace: Workspace, sampled: Version) -> None:
    rows = checked(sampled, workspace, max_length=45).scores.rows
    assert 0 < rows["cut"].sum() < rows.height
    assert rows.filter("cut")["log_ratio"].null_count() == rows["cut"].sum()
    assert rows.filter(~pl.col("cut"))["log_ratio"].abs().max() == pytest.approx(0, abs=1e-4)


def test_another_longest_length_scores_only_what_it_cuts(workspace: Workspace, sampled: Version) -> None:
    checked(sampled, workspace)
    before = workspace.facts.read(LOGPS, ["id"]).height
    checked(sampled, workspace, max_length=50)
    cut = workspace.facts.read(TRAINED, ["cut"], {"max_length": 50}).filter(pl.col("cut") > 0)
    assert 0 < workspace.facts.read(LOGPS, ["id"]).height - before == cut.height < before


def test_texts_of_others_are_off_support_and_the_remedy_is_to_regenerate(
    workspace: Workspace, foreign: Version
) -> None:
    found = checked(foreign, workspace)
    assert found.report.verdict.kind == "regenerate"
    assert found.scores.rows["off_support"].mean() == 1.0
    assert found.scores.rows["nll_gap"].min() > 1.0


def test_second_check_computes_nothing_even_where_the_model_is_gone(
    tmp_path: Path, workspace: Workspace, sampled: Version
) -> None:
    first = checked(sampled, workspace)
    facts = workspace.facts.read(LOGPS, ["id"]).height
    again = Counting()
    second = checked(sampled, workspace, again)
    assert set(again.missing.values()) == {0}
    assert workspace.facts.read(LOGPS, ["id"]).height == facts
    assert second.report.to_json() == first.report.to_json()


def test_rows_sampled_by_another_tokenizer_are_text_and_score_as_under_their_own(
    tmp_path: Path, workspace: Workspace, sampled: Version
) -> None:
    """The same model under other token ids: by these ids every row would be nonsense."""
    other = renumbered(workspace.root.parent / "policy", tmp_path / "other")
    own_ids, as_text = checked(sampled, workspace), checked(sampled, workspace, reference=str(other))
    assert (own_ids.report.retokenised, as_text.report.retokenised) == (0, sampled.frame().collect().height)
    theirs, ours = (found.scores.rows["logps"] for found in (as_text, own_ids))
    assert ((theirs - ours).abs() < 1e-3).mean() > 0.9  # a few were sampled in other pieces than the text falls into
    assert as_text.scores.rows["log_ratio"].null_count() == ours.len()


def test_rows_of_another_tokenizer_are_told_in_one_line(
    tmp_path: Path, workspace: Workspace, sampled: Version, capsys: pytest.CaptureFixture[str]
) -> None:
    other = renumbered(workspace.root.parent / "policy", tmp_path / "other")
    assert command(workspace, sampled.label, "--reference", str(other)) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "another tokenizer" in line]
    rows = sampled.splits["train"]
    words = "completions sampled by another tokenizer: text to the reference, without its token ids"
    assert told == [f"{rows} {words}"]


def test_check_command_exits_1_when_the_gate_is_crossed(
    workspace: Workspace, foreign: Version, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ["--max-new-tokens", "64", "--rows", str(tmp_path / "rows.parquet")]
    assert command(workspace, foreign.label, *told, "--max-off-support", "0.1") == 1
    assert "gate: crossed" in capsys.readouterr().out
    assert command(workspace, foreign.label, *told, "--json") == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True
    rows = pl.read_parquet(tmp_path / "rows.parquet")
    assert (rows.height, rows["ref_chosen_logps"].max() < 0) == (PROMPTS, True)


def test_check_command_draws_a_figure_per_statistic(workspace: Workspace, sampled: Version, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert command(workspace, sampled.label, "--figures", str(tmp_path / "figures")) == 0
    drawn = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert drawn == {"nll", "surprise", "length", "off_support", "kl"}


def test_figures_without_matplotlib_are_told_in_one_line_before_anything_runs(
    workspace: Workspace, sampled: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    assert command(workspace, sampled.label, "--figures", str(tmp_path)) == 2
    assert (
        capsys.readouterr().err
        == "error: figures need matplotlib, which is not installed: pip install prefkit[cards]\n"
    )


def test_version_without_a_check_needs_a_reference(
    workspace: Workspace, sampled: Version, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", sampled.label, "--workspace", str(workspace.root.parent)]) == 2
    assert capsys.readouterr().err == (
        f"error: the recipe of {sampled.label} has no `check`, expected --reference: name a model folder or a Hub id\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--reference", "policy"], "--reference is 'policy' and the recipe of foreign@v1 has none"),
        (["--reference", "nowhere"], "reference 'nowhere' does not exist"),
        (["--reference", "{}/problems.jsonl"], "does not exist"),
        (["--reference", "{}/untold"], "has no chat template"),
        (["--max-length", "3"], "max_length is 3, which leaves no token of any completion of foreign@v1"),
    ],
)
def test_bad_reference_or_length_is_told_in_one_line(
    workspace: Workspace, foreign: Version, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = workspace.root.parent
    if not (folder / "untold").exists():
        shutil.copytree(folder / "policy", folder / "untold")
        (folder / "untold" / "chat_template.jinja").unlink()
    assert command(workspace, foreign.label, *(a.format(folder) for a in arguments)) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("error: ")
    assert said in told


def test_reference_whose_samples_do_not_fit_its_context_is_told_in_one_line(
    workspace: Workspace, sampled: Version, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(workspace, sampled.label, "--max-new-tokens", "100000") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: the reference drew none of")
    assert "too_long" in last


def test_completions_longer_than_the_context_are_told_in_one_line(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"q": p["question"], "a": p["answer"], "long": "So it goes. " * 200, "short": p["answer"]} for p in problems()
    ]
    sides = {"a": {"text": "long"}, "b": {"text": "short"}}
    imported(workspace, "long", rows, completions=sides, comparisons=[{"scorer": "=me", "preference": "=1"}])
    blocks = {
        "name": "long", "prompts": {"imported": "long"}, "score": [{"kind": "imported", "scorer": "me"}],
        "select": {"kind": "comparisons"}, "hygiene": {"constant": None},
    }  # fmt: skip
    version = built(workspace, Recipe.model_validate(blocks)).version
    assert command(workspace, version.label, "--max-new-tokens", "64") == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert "reads at most 256 tokens, got 60 of" in told
    assert told.endswith("set max_length to 256 or less")


def test_version_without_rows_is_told_in_one_line(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    none = {"kind": "best_vs_worst", "min_score_margin": 2.0}
    version = built(workspace, own(name="none", select=none, check=None)).version
    assert command(workspace, version.label) == 2
    assert capsys.readouterr().err == (
        f"error: version {version.label} has no rows, expected some: there is nothing to check\n"
    )


def test_version_whose_prompts_were_all_dropped_is_told_in_one_line(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    path = workspace.root.parent / "blank.jsonl"
    path.write_text('{"question": "caf\u00c3\u00a9 cr\u00c3\u00a8me", "answer": "1"}\n')
    prompts = {"path": "blank.jsonl", "map": {"prompt": "question"}}
    version = built(workspace, own(name="blank", prompts=prompts, check=None)).version
    assert version.ledger[1].outcomes == {"mojibake": 1}
    assert command(workspace, version.label) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: version {version.label} has no rows")
