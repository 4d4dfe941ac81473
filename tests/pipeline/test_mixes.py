"""What a run with a mix is, and what is told of a mix that no run could follow."""

from pathlib import Path

import pytest

from prefkit.errors import NotFoundError, RecipeError
from prefkit.pipeline.recipe import MixPhase, TrainConfig
from prefkit.pipeline.recipe_file import load_recipe
from prefkit.pipeline.training.running import RunStart, started_run, trained_prompts
from prefkit.store.runs import Run, Runs
from prefkit.store.workspace import Workspace
from tests.pipeline.builders import built, recipe, workspace_in
from tests.pipeline.scripted import scripted_policy

SUBSET = {"name": "single", "select": {"kind": "top_k_per_prompt", "k": 1}}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """With the versions small@v1, small@v2 (other rows), other@v1 (the rows of small@v1) and single@v1 (no pairs)."""
    folder = tmp_path_factory.mktemp("mixes")
    workspace = workspace_in(folder)
    scripted_policy(folder / "policy", {})
    built(workspace)
    built(workspace, sample={"backend": "fake", "n": 6, "seed": 1})
    built(workspace, name="other")
    built(workspace, **SUBSET)
    return workspace


def begun(workspace: Workspace, mix: object, data: str | None = None, **train: object) -> Run:
    asked = {"method": "dpo", "sync_period": 2, "mix": mix, **train}
    folder = workspace.root.parent
    mixed = recipe(policy={"model": "policy"}, train=asked)
    return started_run(RunStart(mixed, folder, data), workspace)


def test_weights_alone_are_one_phase_to_the_end() -> None:
    train = TrainConfig.model_validate({"method": "dpo", "mix": {"live": 1, "small@v2": 3}})
    assert train.mix == (MixPhase(weights={"live": 1, "small@v2": 3}),)


def test_mix_of_a_recipe_file_is_read_with_its_phases(tmp_path: Path) -> None:
    text = (
        "name: small\nprompts: {path: p.jsonl}\nsample: {backend: fake}\nscore: [{kind: fake}]\n"
        "select: {kind: best_vs_worst}\n"
        "train:\n  method: dpo\n  mix:\n    - {weights: {live: 1, a@v2: 3}, until: 50}\n    - {weights: {live: 1}}\n"
    )
    (tmp_path / "recipe.yaml").write_text(text)
    train = load_recipe(tmp_path / "recipe.yaml").train
    assert train is not None
    assert [(phase.weights, phase.until) for phase in train.mix] == [({"live": 1, "a@v2": 3}, 50), ({"live": 1}, None)]
    one = load_recipe(tmp_path / "recipe.yaml", ["train.mix={a: 1}"]).train
    assert one is not None
    assert one.mix == (MixPhase(weights={"a": 1}),)


def test_run_with_a_mix_keeps_the_rows_of_every_version_and_names_it_by_its_number(workspace: Workspace) -> None:
    run = begun(workspace, [{"weights": {"small": 1, "live": 2}, "until": 3}, {"weights": {"small@v1": 1}}])
    for label in ("small@v1", "small@v2"):
        rows = workspace.versions.get(label).frame("train").collect()
        assert run.kept(f"data-{label}")["pair_id"].to_pylist() == rows["pair_id"].to_list()
    assert run.kept("prompts").num_rows == 20
    assert run.record.data == "small@v2 + live + small@v1"
    train = run.record.recipe["train"]
    assert isinstance(train, dict)
    assert train["mix"] == [
        {"weights": {"small@v2": 1, "live": 2}, "until": 3},
        {"weights": {"small@v1": 1}, "until": None},
    ]


def test_prompts_of_a_mixed_run_are_those_of_all_its_sources(workspace: Workspace) -> None:
    run = begun(workspace, {"small": 1, "other": 1}, sync_period=None)
    versions = [workspace.versions.get(name).frame("train").collect()["prompt_id"] for name in ("small", "other")]
    assert trained_prompts(run).to_list() == [prompt for ids in versions for prompt in ids]


def test_id_of_a_mixed_run_depends_on_what_the_versions_hold_and_not_on_their_names(workspace: Workspace) -> None:
    ids = [
        begun(workspace, mix).record.id
        for mix in (
            {"live": 1, "small@v1": 1},
            {"live": 1, "other": 1},
            {"live": 1, "small": 1},
            {"live": 1, "small@v1": 2},
            [{"weights": {"live": 1, "small@v1": 1}, "until": 4}, {"weights": {"live": 1}}],
            {"small@v1": 1, "live": 1},
        )
    ]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 5


@pytest.mark.parametrize(
    ("mix", "given", "line"),
    [
        ({"live": 1, "smal": 1}, {}, "version 'smal' does not exist; did you mean 'small'"),
        ({"live": 1, "small@v7": 1}, {}, "version 'small@v7' does not exist"),
        ({"live": 1, "single": 1}, {}, "version single@v1 holds single completions, expected pairs"),
        ({"live": 1, "small": 1, "small@v2": 1}, {}, "train.mix names small@v2 as 'small' and as 'small@v2'"),
        ({"live": 0, "small": 0}, {}, "expected finite ones that are not negative, and one above 0"),
        ({"live": 1, "small": -1}, {}, r"has the weights \['small: -1'\], expected finite ones"),
        ({"small": 1}, {}, "train.sync_period is 2 and train.mix gives no weight to 'live'"),
        ({"small": 1, "live": 0}, {}, "train.mix gives no weight to 'live'"),
        ({"small": 1, "live": 1}, {"sync_period": None}, "train.mix names 'live' and train.sync_period is null"),
        ({"live": 1, "small": 1}, {"data": "small@v1"}, "--data small@v1 was given and train.mix is set"),
        (
            {"live": 1, "small": 1},
            {"reference": "reset", "reference_reset_period": 3},
            "train.reference is 'reset' and train.mix names versions, expected 'fixed' or 'behavior'",
        ),
        (
            [{"weights": {"small": 1}, "until": 9}, {"weights": {"live": 1}, "until": 9}, {"weights": {"live": 1}}],
            {},
            r"phases of the mix end at \[9, 9\], expected growing positions",
        ),
        ([{"weights": {"live": 1}, "until": 9}], {}, "no phase that lasts to the end"),
    ],
)
def test_mix_that_cannot_be_trained_on_is_told_in_one_line_and_begins_no_run(
    workspace: Workspace, mix: object, given: dict[str, object], line: str
) -> None:
    before = [run.name for run in Runs(workspace.root).all()]
    with pytest.raises((RecipeError, NotFoundError), match=line) as told:
        begun(workspace, mix, **given)  # type: ignore[arg-type]
    assert "\n" not in str(told.value)
    assert [run.name for run in Runs(workspace.root).all()] == before
