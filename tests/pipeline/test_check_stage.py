"""The check as the last stage of a build: its report, its gate, the rows it drops, and that all of it is reproduced."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import polars as pl
import pytest

import prefkit.pipeline.check.reference_maker as maker
from prefkit.cli import main
from prefkit.cli.check import asked_yardstick
from prefkit.errors import RecipeError, SourceError
from prefkit.pipeline.build import Built
from prefkit.pipeline.check.behind_system import system_of
from prefkit.pipeline.check.checking import check, row_columns
from prefkit.pipeline.dry_run import dry_run_of
from prefkit.pipeline.rebuild import rebuild
from prefkit.pipeline.recipe import Recipe
from prefkit.pipeline.resolve import resolved
from prefkit.records import COMPLETIONS, LOGPS, TRAINED
from prefkit.store.gc import collect
from prefkit.store.versions import Version
from prefkit.store.workspace import Workspace
from tests.pipeline.shifted import PROMPTS, Counting, built, own, policy_workspace, verily

DROPPING = {"reference": "policy", "drop": ["chosen", "rejected"], "store_ref_logps": True, "max_new_tokens": 64}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return policy_workspace(tmp_path_factory.mktemp("stage"))


@pytest.fixture(scope="module")
def mixed(workspace: Workspace) -> Built:
    """Pairs of which most are the policy's own, and others are in words it would never use; all are kept."""
    return built(workspace, mixed_recipe(check={"reference": "./policy", "max_new_tokens": 64, "max_off_support": 0.2}))


def mixed_recipe(**blocks: object) -> Recipe:
    """Own samples of 85 % of the prompts, imported completions of the rest."""
    base: dict[str, object] = {
        "name": "mixed",
        "prompts": {"imported": "verily"},
        "policy": {"model": "policy"},
        "sample": {"backend": "transformers", "n": 6, "max_new_tokens": 64, "prompt_share": [0.15, 1]},
        "completions": {"prompt_share": [0, 0.15]},
        "score": [{"kind": "verifier", "name": "math"}],
        "select": {"kind": "correct_vs_incorrect"},
        "split": {"test": 0.2},
    }
    return Recipe.model_validate(base | blocks)


@pytest.fixture(scope="module", autouse=True)
def _source(workspace: Workspace) -> None:
    verily(workspace)


def sampling(n: int, **settings: object) -> dict[str, object]:
    return {"backend": "transformers", "n": n, "max_new_tokens": 64, **settings}


def account(version: Version, stage: str) -> dict[str, int]:
    return dict(next(a for a in version.ledger if a.stage == stage).outcomes)


def command(workspace: Workspace, *arguments: str) -> int:
    return main([*arguments, "--workspace", str(workspace.root.parent)])


def recipe_file(workspace: Workspace, recipe: Recipe) -> str:
    path = workspace.root.parent / f"{recipe.name}.yaml"
    path.write_text(json.dumps(recipe.model_dump(mode="json", exclude_none=True)))  # JSON is YAML
    return str(path)


def test_report_stands_in_the_manifest_and_is_what_the_command_finds(workspace: Workspace, mixed: Built) -> None:
    version = mixed.version
    shift = version.content["shift"]
    assert shift is not None
    assert (shift["verdict"], shift["passed"]) == ("regenerate", False)
    found = check(version, workspace, asked_yardstick(version, workspace, {}), Counting())
    assert found.report.to_content() == shift
    assert version.content["recipe"]["check"]["model_id"].startswith("hf:")
    assert str(workspace.root.parent) not in json.dumps(version.content)


def test_every_reference_sample_and_every_row_has_an_outcome(mixed: Built) -> None:
    version = mixed.version
    rows = version.frame().collect()
    assert account(version, "reference samples") == {"sampled": 4 * rows["prompt_id"].n_unique()}
    assert account(version, "check") == {"kept": rows.height}
    assert (mixed.own_samples, mixed.logps) == (
        4 * rows["prompt_id"].n_unique(),
        pl.concat([rows["chosen_id"], rows["rejected_id"]]).n_unique() + mixed.own_samples,
    )


def test_rows_are_reproduced_bit_for_bit_without_a_model(
    workspace: Workspace, mixed: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_models(monkeypatch)
    assert rebuild(mixed.version, workspace) == []


def without_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be opened from here on."""

    def refuse(*_: object) -> None:
        raise AssertionError("a model was opened")

    for name in ("open_sampler", "open_reference"):
        monkeypatch.setattr(maker, name, refuse)


def test_unchanged_recipe_opens_no_model(workspace: Workspace, mixed: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    without_models(monkeypatch)
    recipe = Recipe.model_validate(mixed.version.provenance["recipe"])
    assert built(workspace, recipe) == Built(mixed.version, new=False)
    other = built(workspace, recipe.model_copy(update={"check": recipe.check.model_copy(update={"max_nll_gap": 9.0})}))
    assert (other.new, other.own_samples, other.logps) == (True, 0, 0)


def test_dropped_rows_have_an_outcome_and_the_report_is_about_the_others(workspace: Workspace, mixed: Built) -> None:
    version = built(workspace, mixed_recipe(name="dropping", check=DROPPING)).version
    all_rows = mixed.version.frame().collect()
    scores = row_columns(mixed.version, workspace)
    assert scores is not None
    off = {s: all_rows.filter(scores[f"{s}_off_support"])["pair_id"].to_list() for s in ("chosen", "rejected")}
    outcomes = version.outcomes().filter(pl.col("stage") == "check").collect()
    by_name = {name: set(outcomes.filter(outcome=name)["id"]) for name in outcomes["outcome"].unique()}
    assert by_name["chosen_off_support"] == set(off["chosen"])
    assert by_name.get("rejected_off_support", set()) == set(off["rejected"]) - set(off["chosen"])
    assert version.content["shift"]["overall"]["rows"] == version.frame().collect().height
    assert [s["off_support"]["value"] for s in version.content["shift"]["overall"]["sides"]] == [0.0, 0.0]
    assert rebuild(version, workspace) == []


def test_numbers_of_a_row_do_not_depend_on_the_rows_that_were_dropped(workspace: Workspace, mixed: Built) -> None:
    dropping = built(workspace, mixed_recipe(name="dropping", check=DROPPING)).version
    one, other = (
        version.frame().collect().select("pair_id").hstack(row_columns(version, workspace).drop("row"))  # type: ignore[union-attr]
        for version in (mixed.version, dropping)
    )
    assert 0 < other.height < one.height
    assert one.join(other.select("pair_id"), on="pair_id", how="semi").sort("pair_id").equals(other.sort("pair_id"))
    found = check(dropping, workspace, asked_yardstick(dropping, workspace, {}), Counting())
    assert found.report.to_content() == dropping.content["shift"]


def test_stored_log_probs_are_those_of_the_reference(workspace: Workspace) -> None:
    version = built(workspace, own(check={"reference": "policy", "store_ref_logps": True})).version
    rows = version.frame().collect()
    for side in ("chosen", "rejected"):
        assert (rows[f"ref_{side}_logps"] - rows[f"behavior_{side}_logps"]).abs().max() == pytest.approx(0, abs=1e-4)
    subset = {"kind": "threshold", "desirable_at": 0.5}
    single = built(workspace, own(name="single", select=subset, check={"reference": "policy", "store_ref_logps": True}))
    rows = single.version.frame().collect()
    assert (rows["ref_logps"] - rows["behavior_logps"]).abs().max() == pytest.approx(0, abs=1e-4)
    plain = built(workspace, own(check={"reference": "policy"})).version.frame().collect()
    assert not [name for name in plain.columns if name.startswith("ref_")]


def test_rows_without_a_token_left_are_dropped_by_name(workspace: Workspace) -> None:
    whole = built(workspace, own(name="whole")).version.frame().collect()
    version = built(workspace, own(name="short", check={"reference": "policy", "max_length": 20, "samples": 8})).version
    outcomes = account(version, "check")
    assert 0 < outcomes["no_tokens_left"] < whole.height
    assert outcomes["kept"] == version.content["shift"]["overall"]["rows"] == version.frame().collect().height
    assert version.content["shift"]["unscored"] == 0


def test_version_that_is_dropped_whole_is_published_with_no_row_and_no_report(workspace: Workspace) -> None:
    version = built(workspace, own(name="nothing", check={"reference": "policy", "max_length": 3})).version
    assert set(account(version, "check")) == {"no_tokens_left"}
    assert (version.splits, version.content["shift"]) == ({"train": 0}, None)
    assert rebuild(version, workspace) == []


def test_crossed_gate_publishes_and_exits_1(
    workspace: Workspace, mixed: Built, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = recipe_file(workspace, Recipe.model_validate(mixed.version.provenance["recipe"]))
    for _ in range(2):  # the second finds the version made
        assert command(workspace, "build", path) == 1
        told = capsys.readouterr().out
        assert "gate: crossed: off-support share of chosen is" in told
        assert "shift: regenerate; off-support:" in told
    assert command(workspace, "build", path, "--json") == 1
    assert json.loads(capsys.readouterr().out)["crossed"][0].endswith("limit 0.2")
    monkeypatch.setenv("COLUMNS", "120")
    assert command(workspace, "log", "mixed") == 0
    assert "regenerate, crossed" in capsys.readouterr().out
    assert command(workspace, "log", "mixed", "--json") == 0
    assert [(v["verdict"], v["passed"]) for v in json.loads(capsys.readouterr().out)][-1] == ("regenerate", False)


def test_check_command_takes_limits_and_reference_from_the_recipe(
    workspace: Workspace, mixed: Built, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(workspace, "check", mixed.version.label) == 1
    assert "gate: crossed" in capsys.readouterr().out
    assert command(workspace, "check", mixed.version.label, "--max-off-support", "1") == 0


def test_dropped_rows_can_be_read_and_traced(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    version = built(workspace, mixed_recipe(name="dropping", check=DROPPING)).version
    assert command(workspace, "show", version.label, "--outcome", "chosen_off_support", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert all(row["stage"] == "check" and "verily" in row["chosen"][0]["content"] for row in rows)
    assert command(workspace, "trace", rows[0]["id"]) == 0
    assert "ended as chosen_off_support" in capsys.readouterr().out


def test_show_sorts_and_filters_by_what_the_check_found(
    workspace: Workspace, mixed: Built, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_models(monkeypatch)
    monkeypatch.setenv("COLUMNS", "200")
    scores = row_columns(mixed.version, workspace)
    assert scores is not None
    pairs = mixed.version.frame().select("pair_id").collect()["pair_id"].bin.encode("hex")
    for column in ("chosen_nll", "ref_chosen_logps", "rejected_off_support"):
        assert command(workspace, "show", mixed.version.label, "--sort", column, "--descending", "--json") == 0
        shown = json.loads(capsys.readouterr().out)["rows"]
        order = scores.sort(column, descending=True, maintain_order=True)["row"].head(20)
        assert [row["pair_id"] for row in shown] == pairs.gather(order).to_list()
        assert [row[column] for row in shown] == scores[column].gather(order).to_list()
    assert command(workspace, "show", mixed.version.label, "--where", "chosen_off_support", "--json") == 0
    assert json.loads(capsys.readouterr().out)["matching"] == scores["chosen_off_support"].sum()
    assert command(workspace, "show", mixed.version.label, "--sort", "chosen_nll", "-n", "1") == 0
    assert f"chosen_nll {scores['chosen_nll'].min():.6g}" in capsys.readouterr().out


def test_show_without_a_check_knows_no_such_column(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    version = built(workspace, own(name="unchecked", check=None)).version
    assert command(workspace, "show", version.label, "--sort", "chosen_nll") == 2
    assert "--sort names 'chosen_nll', expected a column of unchecked@v1" in capsys.readouterr().err


def test_dry_run_says_what_the_check_would_compute(workspace: Workspace) -> None:
    folder = workspace.root.parent
    recipe = own(name="forecast", check=None)
    version = built(workspace, recipe).version
    rows = version.frame().collect()
    texts = pl.concat([rows["chosen_id"], rows["rejected_id"]]).n_unique()
    asked = own(name="forecast", check={"reference": "policy", "seed": 7})
    plan = dry_run_of(asked, workspace, folder)
    samples, logps = plan.checks
    assert not plan.checks_are_upper_bound
    assert (samples.planned, samples.to_do) == (4 * rows.height, 4 * rows.height)
    done = built(workspace, asked)
    assert (done.own_samples, logps.planned) == (samples.to_do, texts + 4 * rows.height)
    assert done.logps <= logps.to_do <= logps.planned
    again = dry_run_of(asked, workspace, folder)
    assert [work.to_do for work in again.checks] == [0, 0]


def test_dry_run_is_an_upper_bound_while_draws_are_missing(workspace: Workspace) -> None:
    recipe = own(name="bound", check={"reference": "policy", "seed": 8}, sample=sampling(4, seed=5))
    plan = dry_run_of(recipe, workspace, workspace.root.parent)
    assert plan.checks_are_upper_bound
    done = built(workspace, recipe)
    assert plan.checks[0].to_do == 4 * next(a.kept for a in done.version.ledger if a.stage == "prompt hygiene")
    assert (done.own_samples, done.logps) < tuple(work.to_do for work in plan.checks)


def test_own_samples_outlive_a_collection_of_unnamed_facts(tmp_path: Path) -> None:
    workspace = policy_workspace(tmp_path)
    built(workspace, own())
    unnamed = built(workspace, own(name="gone", check=None, sample=sampling(1, seed=9)))
    workspace.versions.remove(unnamed.version)
    assert collect(workspace, facts=True).facts[COMPLETIONS.name] == unnamed.drawn
    again = built(workspace, own(check={"reference": "policy", "max_nll_gap": 1.0}))
    assert (again.new, again.drawn, again.own_samples, again.logps) == (True, 0, 0, 0)


def test_stages_run_again_when_somebody_else_stores_completions_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another build draws the same prompts of another seed while the reference draws its own samples."""
    workspace = policy_workspace(tmp_path)
    recipe = own(check={"reference": "policy"})
    real, meddled = maker.open_sampler, list[int]()

    def meddling(*arguments: object) -> object:
        if not meddled:
            meddled.append(built(workspace, own(name="other", check=None, sample=sampling(1, seed=3))).drawn)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(maker, "open_sampler", meddling)
    done = built(workspace, recipe)
    assert meddled == [PROMPTS]
    assert rebuild(done.version, workspace) == []
    assert done.version.pins[COMPLETIONS.name] == workspace.facts.heads()[COMPLETIONS.name]


def test_reference_that_draws_too_little_refuses_the_build_and_keeps_the_facts(tmp_path: Path) -> None:
    workspace = policy_workspace(tmp_path)
    few = own(prompts={"path": "problems.jsonl", "map": {"prompt": "question"}, "limit": 8})
    with pytest.raises(SourceError, match="expected 99 of 2 at least"):
        built(workspace, few)
    assert workspace.facts.read(LOGPS, ["id"]).height == workspace.facts.read(TRAINED, ["id"]).height > 0
    assert workspace.versions.newest("own") is None


@pytest.mark.parametrize(
    ("check", "said"),
    [
        ({"reference": "policy", "drop": ["completion"]}, "expected chosen or rejected"),
        ({"reference": "policy", "revision": "main"}, "expected it in `policy.revision`"),
        ({"reference": "policy", "max_off_support": 2}, "less than or equal to 1"),
    ],
)
def test_check_that_makes_no_sense_is_refused_with_the_recipe(check: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        own(check=check)


def test_reference_policy_without_a_policy_is_refused_with_the_recipe() -> None:
    with pytest.raises(ValueError, match=r"the recipe has none, expected `policy\.model`"):
        own(policy=None, sample={"backend": "fake"})


def test_reference_by_folder_and_by_name_of_the_policy_are_one_check(workspace: Workspace) -> None:
    folder = workspace.root.parent
    shutil.copytree(folder / "policy", folder / "copy", dirs_exist_ok=True)
    contents = [resolved(own(check={"reference": r}), folder).content() for r in ("policy", "./policy", "copy")]
    assert contents[0] == contents[1] == contents[2]
    with pytest.raises(RecipeError, match="two blocks that draw the same"):
        resolved(_shared([0, 0.5], [0.4, 1]), folder)
    assert resolved(_shared([0, 0.5], [0.5, 1]), folder)


def _shared(*shares: Sequence[float]) -> Recipe:
    block = {"backend": "transformers", "max_new_tokens": 64}
    return own(sample=[block | {"prompt_share": list(share)} for share in shares])


def test_reference_reads_the_system_message_that_the_policy_read(tmp_path: Path) -> None:
    workspace = policy_workspace(tmp_path)
    block = {"backend": "transformers", "n": 4, "max_new_tokens": 64, "system": "Answer with care."}
    select = {"kind": "threshold", "desirable_at": 0.5}
    recipe = own(name="behind", sample=block, select=select, check={"reference": "policy", "store_ref_logps": True})
    version = built(workspace, recipe).version
    rows = version.frame().collect()
    assert (rows["ref_logps"] - rows["behavior_logps"]).abs().max() == pytest.approx(0, abs=1e-4)
    assert rebuild(version, workspace) == []
    assert not built(workspace, recipe).new


def test_different_system_messages_have_no_one_check() -> None:
    blocks = [{"backend": "fake", "system": system} for system in ("Be brief.", "Be kind.")]
    with pytest.raises(RecipeError, match="different `system` messages"):
        system_of(own(sample=blocks))


def test_report_tells_which_answers_of_the_reference_the_rows_cover(mixed: Built) -> None:
    shift = mixed.version.content["shift"]
    assert shift is not None
    coverage = cast("dict[str, dict[str, float]]", shift["coverage"])
    assert coverage["share"]["value"] > coverage["other"]["value"] + 0.2
    assert coverage["informative"] is True
