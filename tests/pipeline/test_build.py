"""Facts are reused exactly when they are what the recipe asks for."""

import json
from pathlib import Path

import polars as pl
import pytest

from prefkit.errors import RecipeError, WorkspaceError
from prefkit.identity import content_id
from prefkit.pipeline.rebuild import rebuild
from prefkit.records import COMPLETIONS, SCORES
from prefkit.store.workspace import Workspace
from tests.pipeline.builders import built, problems, workspace_in, write_problems


def completions(workspace: Workspace) -> pl.DataFrame:
    return workspace.facts.read(COMPLETIONS, ["id", "prompt_id", "sample_index", "completion", "sampler_id"])


def test_build_again_is_the_same_version_without_a_call(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    first = built(workspace)
    again = built(workspace)
    assert first.new
    assert first.drawn == 20 * 6
    assert (again.new, again.version.label, again.drawn, again.labelled) == (False, "small@v1", 0, 0)


def test_build_in_two_workspaces_gives_the_same_bytes(tmp_path: Path) -> None:
    versions = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        versions.append(built(workspace_in(tmp_path / name), split={"test": 0.3}).version)
    one, two = versions
    assert one.manifest["content"] == two.manifest["content"]
    assert set(one.files) == {"train", "test", "outcomes"}
    for file in one.files:
        assert one.path(file).read_bytes() == two.path(file).read_bytes()


def test_build_same_facts_by_another_way_gives_the_same_bytes(tmp_path: Path) -> None:
    """n = 2, then 6, in other batches, equals 6 at once: the facts arrived in another order and in other commits."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    direct = built(workspace_in(tmp_path / "a")).version
    detour = workspace_in(tmp_path / "b")
    built(detour, sample={"backend": "fake", "n": 2, "batch_size": 3})
    version = built(detour).version
    assert version.label == "small@v2"
    assert version.manifest["content_hash"] == direct.manifest["content_hash"]


def test_rebuild_from_pins_is_bit_for_bit_after_later_facts(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    first = built(workspace).version
    built(workspace, sample={"backend": "fake", "n": 9})
    write_problems(tmp_path, problems(25))
    built(workspace)
    assert rebuild(first, Workspace.open(tmp_path)) == []


def test_n_from_8_to_16_draws_8_more_per_prompt_and_keeps_the_first(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    built(workspace, sample={"backend": "fake", "n": 8})
    before = completions(workspace)
    more = built(workspace, sample={"backend": "fake", "n": 16})
    after = completions(workspace)
    assert more.drawn == 20 * 8
    per_prompt = (
        after.join(before, on="id", how="anti").group_by("prompt_id").agg(pl.len(), pl.col("sample_index").min())
    )
    assert set(per_prompt["len"]) == {8}
    assert set(per_prompt["sample_index"]) == {8}
    kept = after.join(before, on="id", how="semi").sort("id")
    assert kept.equals(before.sort("id"))


def test_n_from_16_to_8_reads_only_the_first_8(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    small = built(workspace, sample={"backend": "fake", "n": 8}).version
    built(workspace, sample={"backend": "fake", "n": 16})
    again = built(workspace, sample={"backend": "fake", "n": 8})
    assert again.drawn == 0
    assert again.version.manifest["content_hash"] == small.manifest["content_hash"]


def test_another_seed_changes_nearly_all_completions(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    built(workspace, sample={"backend": "fake", "n": 6, "seed": 0})
    built(workspace, sample={"backend": "fake", "n": 6, "seed": 1})
    both = completions(workspace).sort("prompt_id", "sample_index", "sampler_id")
    texts = both["completion"].list.first().struct.field("content").to_list()
    changed = sum(a != b for a, b in zip(texts[::2], texts[1::2], strict=True))
    assert len(texts) == 240
    assert changed >= 0.9 * 120


def test_a_corrected_gold_answer_scores_its_prompt_anew_and_keeps_the_rest(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    first = built(workspace)
    rows = problems(20)
    rows[4]["answer"] = 999
    write_problems(tmp_path, rows)
    second = built(workspace)
    assert second.drawn == 0
    outcomes = second.version.outcomes().collect()
    prompt = content_id("prompt", [{"role": "user", "content": rows[4]["prompt"]}])
    of_prompt = completions(workspace).filter(pl.col("prompt_id") == prompt)["id"]
    dropped = outcomes.filter(pl.col("stage") == "completion hygiene")["id"]
    assert second.labelled == len(set(of_prompt) - set(dropped))
    assert 0 < second.labelled <= 6 < first.labelled
    assert ("no_correct", prompt) in outcomes.select("outcome", "prompt_id").rows()
    assert prompt not in second.version.frame().select("prompt_id").collect()["prompt_id"].to_list()


def test_one_prompt_added_draws_exactly_n(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    built(workspace)
    write_problems(tmp_path, problems(21))
    assert built(workspace).drawn == 6


def test_a_prompt_taken_out_leaves_the_dataset_but_not_the_facts(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    built(workspace)
    write_problems(tmp_path, problems(10))
    smaller = built(workspace)
    assert smaller.drawn == smaller.labelled == 0
    assert smaller.version.content["ledger"][1]["planned"] == 10
    write_problems(tmp_path, problems(20))
    assert built(workspace).drawn == 0


def test_another_aspect_is_labelled_without_touching_the_first(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    first = built(workspace)
    right = {"kind": "python", "path": "tests.pipeline.scorers:right_number", "aspect": "right", "read": ["answer"]}
    length = {"kind": "python", "path": "tests.pipeline.scorers:characters", "aspect": "characters"}
    second = built(workspace, score=[right, length], aggregate={"kind": "weights", "weights": {"right": 1.0}})
    assert (second.drawn, second.labelled) == (0, first.labelled)
    scores = workspace.facts.read(SCORES, ["aspect"])["aspect"].value_counts()
    assert dict(scores.iter_rows()) == {"right": first.labelled, "characters": first.labelled}


def test_other_weights_of_aspects_ask_nothing(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    right = {"kind": "python", "path": "tests.pipeline.scorers:right_number", "aspect": "right", "read": ["answer"]}
    length = {"kind": "python", "path": "tests.pipeline.scorers:characters", "aspect": "characters"}
    blocks = {"score": [right, length], "select": {"kind": "best_vs_worst"}}
    built(workspace, **blocks, aggregate={"kind": "weights", "weights": {"right": 1.0}})
    other = built(workspace, **blocks, aggregate={"kind": "weights", "weights": {"right": 0.0, "characters": 1.0}})
    assert (other.new, other.drawn, other.labelled) == (True, 0, 0)
    rows = other.version.frame().collect()
    lengths = rows.select(
        pl.col("chosen").list.first().struct.field("content").str.len_chars().alias("chosen"),
        pl.col("rejected").list.first().struct.field("content").str.len_chars().alias("rejected"),
    )
    assert (lengths["chosen"] > lengths["rejected"]).all()


def test_two_blocks_sample_side_by_side_and_say_whose_each_completion_is(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    blocks = [{"backend": "fake", "n": 3, "seed": 1}, {"backend": "fake", "n": 2, "seed": 2}]
    both = built(workspace, sample=blocks)
    assert both.drawn == 20 * 5
    assert built(workspace, sample=blocks[:1]).drawn == 0
    with pytest.raises(RecipeError, match="two blocks that draw the same"):
        built(workspace, sample=[blocks[0], blocks[0]])


def test_subset_strategies_build_versions_of_single_completions(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    version = built(workspace, select={"kind": "threshold", "desirable_at": 1.0}).version
    rows = version.frame().collect()
    assert version.content["kind"] == "subset"
    assert set(rows["label"]) == {True, False}
    assert (rows["label"] == (rows["score"] == 1.0)).all()


def test_two_builds_of_one_name_at_once_are_refused(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    with workspace.building("small"), pytest.raises(WorkspaceError, match="small is being built by process"):
        built(workspace)
    assert built(workspace).new


def test_manifest_ledger_and_provenance_tell_how_the_version_came_about(tmp_path: Path) -> None:
    version = built(workspace_in(tmp_path)).version
    stages = [account["stage"] for account in version.content["ledger"]]
    assert stages == [
        "import", "prompt hygiene", "sample", "completion hygiene", "score", "select", "select rows", "pair hygiene",
        "version",
    ]  # fmt: skip
    assert version.provenance["recipe"]["name"] == "small"
    assert str(tmp_path) not in json.dumps(version.content)
