"""Whatever is wrong with what is to be trained is told in one line, exits 2, and begins no run."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("trl")

from prefkit.cli import main
from prefkit.store.runs import RunOutcome, RunRecord, Runs
from prefkit.store.workspace import Workspace
from tests.cli.projects import RECIPE, built_project
from tests.trainers.builders import save_tiny_policy

TRAIN = "policy: {model: tiny}\ntrain: {method: dpo, sync_period: 2, args: {max_steps: 1}}\n"
SINGLE = 'select={"kind":"top_k_per_prompt"}'
OFFLINE = "train recipe.yaml --set train.sync_period=null"


@dataclass(frozen=True)
class Wrong:
    """A command that cannot be obeyed, and words of the line that says why."""

    command: str
    says: tuple[str, ...]


def args(argument: str) -> str:
    return f"train recipe.yaml --set train.args.{argument}"


def changed(value: str) -> str:
    return f"train recipe.yaml --set {value}"


WRONG = {
    "method_unknown": Wrong(changed("train.method=dpoo"), ("'dpoo'", "did you mean 'dpo'")),
    "method_later": Wrong(changed("train.method=grpo"), ("'grpo' is not in this release",)),
    "argument_unknown": Wrong(args("learning_rat=1"), ("train.args.learning_rat ", "did you mean 'learning_rate'")),
    "argument_type": Wrong(args("max_steps=many"), ("train.args.max_steps is 'many'", "integer")),
    "argument_too_small": Wrong(args("per_device_train_batch_size=0"), ("is 0, expected at least 1",)),
    "loss_unknown": Wrong(args("loss_type=sigmoyd"), ("'sigmoyd'", "did you mean 'sigmoid'")),
    "reporter_unknown": Wrong(args("report_to=wndb"), ("'wndb'", "did you mean 'wandb'")),
    "adapter_argument_unknown": Wrong(changed("train.peft.lora_alpa=3"), ("did you mean 'lora_alpha'",)),
    "only_the_model_is_saved": Wrong(args("save_only_model=true"), ("save_only_model", "need the optimizer")),
    "length_desensitised": Wrong(args("ld_alpha=0.5"), ("ld_alpha", "only sums are stored")),
    "period_0": Wrong(changed("train.sync_period=0"), ("train.sync_period is 0", "greater than 0")),
    "period_negative": Wrong(changed("train.sync_period=-1"), ("train.sync_period is -1", "greater than 0")),
    "period_nan": Wrong(changed("train.sync_period=.nan"), ("train.sync_period is nan",)),
    "period_no_whole_number": Wrong(changed("train.sync_period=2.5"), ("is 2.5, expected a whole number of steps",)),
    "reference_unknown": Wrong(changed("train.reference=behaviour"), ("did you mean 'behavior'",)),
    "online_without_a_sampler": Wrong(
        changed("sample.policy.model=tiny"), ("no `sample` block draws from the policy in training",)
    ),
    "online_with_imported_scores": Wrong(
        changed('score=[{"kind":"imported","scorer":"people"}]'), ("'people' is imported", "label new completions")
    ),
    "online_with_imported_completions": Wrong(
        changed('completions={"models":["gpt"]}'), ("`completions` are imported", "expected only new ones")
    ),
    "online_on_a_version": Wrong("train recipe.yaml --data arithmetic", ("reads no version",)),
    "version_unknown": Wrong(f"{OFFLINE} --data arithmetc", ("'arithmetc'", "did you mean 'arithmetic'")),
    "version_number_unknown": Wrong(f"{OFFLINE} --data arithmetic@v7", ("did you mean 'arithmetic@v1'",)),
    "version_not_there": Wrong(f"{OFFLINE} --set name=other", ("other has no version", "prefkit build")),
    "version_of_single_completions": Wrong(f"{OFFLINE} --data single", ("single completions, expected pairs",)),
    "version_without_rows": Wrong(f"{OFFLINE} --data empty", ("empty@v1 has no train rows",)),
    "recipe_of_single_completions": Wrong(f"{OFFLINE} --set {SINGLE}", ("'dpo' needs pairs",)),
    "policy_missing": Wrong(f"{OFFLINE} --set policy.model=nowhere", ("policy 'nowhere' does not exist",)),
    "no_pad_token": Wrong(changed("policy.model=padless"), ("has no pad token", "tokenizer_config.json")),
    "no_pad_token_offline": Wrong(f"{OFFLINE} --set policy.model=padless", ("has no pad token",)),
    "no_template": Wrong(changed("policy.model=formless"), ("has no chat template",)),
    "run_taken": Wrong("train recipe.yaml --run ended", ("'ended' exists already", "--resume")),
    "run_name": Wrong("train recipe.yaml --run a/b", ("'a/b' is no file name",)),
    "resume_ended": Wrong("train --resume ended", ("'ended' has ended after 7 steps",)),
    "resume_unknown": Wrong("train --resume endet", ("'endet' does not exist", "did you mean 'ended'")),
    "resume_beside_a_recipe": Wrong("train recipe.yaml --resume ended", ("either a recipe file or --resume RUN",)),
    "replay_unknown": Wrong("replay endet", ("did you mean 'ended'",)),
    "replay_order_unknown": Wrong("replay ended --order shufle", ('Did you mean "shuffle"',)),
    "eval_unknown": Wrong("eval recipe.yaml --policy endet", ("'endet' does not exist", "did you mean 'ended'")),
    "build_unknown": Wrong("build --from-run endet --name x", ("did you mean 'ended'",)),
}


@pytest.fixture(scope="module")
def trainable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with versions of several shapes, a run that has ended, and policies that lack something."""
    folder = built_project(tmp_path_factory.mktemp("trainable") / "project", RECIPE + TRAIN)
    save_tiny_policy(folder / "tiny")
    _without(folder / "tiny", folder / "padless", "pad_token")
    _without(folder / "tiny", folder / "formless", "chat_template")
    for name, change in (("single", SINGLE), ("empty", "split.test=0.999999")):
        build = ["build", str(folder / "recipe.yaml"), "--workspace", str(folder), "--set", f"name={name}"]
        assert main([*build, "--set", change]) == 0
    run = Runs(Workspace.open(folder).root).prepare("ended")
    run.begin(RunRecord("0", "dpo", {}, str(folder), "tiny", None, "2025-01-01T00:00:00+00:00"))
    run.end(RunOutcome(7, "00", {}))
    return folder


def _without(policy: Path, folder: Path, name: str) -> None:
    shutil.copytree(policy, folder)
    (folder / "chat_template.jinja").unlink() if name == "chat_template" else None
    config: Mapping[str, object] = json.loads((folder / "tokenizer_config.json").read_text())
    left = {key: value for key, value in config.items() if key != name}
    (folder / "tokenizer_config.json").write_text(json.dumps(left))


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_wrong_training_is_told_in_one_line(
    wrong: Wrong, trainable: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(trainable)
    code = main(wrong.command.split())
    told = capsys.readouterr()
    lines = told.err.splitlines()
    assert len(lines) == 1, told.err
    assert lines[0].startswith("error: ")
    assert [words for words in wrong.says if words not in lines[0]] == [], lines[0]
    assert code == 2
    assert told.out == ""
    assert [run.name for run in Runs(Workspace.open(trainable).root).all()] == ["ended"]


def test_replay_in_several_processes_is_told_in_one_line(
    trainable: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(trainable)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["replay", "ended"]) == 2
    told = "error: replay was started by 2 processes, expected one: run `prefkit replay ended` without a launcher\n"
    assert capsys.readouterr().err == told
