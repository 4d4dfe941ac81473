"""DPO over a version that holds the reference's sums, against TRL with the reference model in memory."""

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

pytest.importorskip("trl")

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer

from prefkit.pipeline.build import build
from prefkit.pipeline.recipe import Recipe
from prefkit.pipeline.training import streaming
from prefkit.pipeline.training.running import RunStart
from prefkit.store.workspace import Workspace
from prefkit.stream.replay import served_rows
from prefkit_trainers import running
from prefkit_trainers.metrics import read_metrics
from prefkit_trainers.rows import TOKENS
from tests.trainers.builders import QUIET, WORDS, save_tiny_policy, tiny_tokenizer

PROMPTS = 12
ARGS = QUIET | {"learning_rate": 1e-2, "num_train_epochs": 2}
REFERENCE = {"reference": "policy", "store_ref_logps": True, "samples": 12, "max_new_tokens": 4}


def recipe(args: Mapping[str, object] = ARGS, policy: str = "policy") -> Recipe:
    """Pairs of the tiny policy's own samples, in an order that a made-up scorer gives."""
    return Recipe.model_validate(
        {
            "name": "stored",
            "prompts": {"path": "prompts.jsonl"},
            "policy": {"model": policy},
            "sample": {"backend": "transformers", "n": 4, "max_new_tokens": 12},
            "score": [{"kind": "fake"}],
            "select": {"kind": "best_vs_worst"},
            "hygiene": {"truncated": False},
            "check": REFERENCE,
            "train": {"method": "dpo", "args": args},
        }
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a version that holds the policy's sums."""
    folder = tmp_path_factory.mktemp("stored")
    save_tiny_policy(folder / "policy")
    prompts = [{"prompt": f"w{number} w{number * 7 % WORDS}"} for number in range(PROMPTS)]
    (folder / "prompts.jsonl").write_text("".join(f"{json.dumps(prompt)}\n" for prompt in prompts))
    workspace = Workspace.create(folder)
    version = build(recipe(), workspace, folder).version
    rows = version.frame("train").collect()
    assert rows["ref_chosen_logps"].is_finite().all()
    assert rows.height > PROMPTS / 2
    return workspace


def trained(workspace: Workspace, asked: Recipe, name: str) -> Path:
    """The run's folder."""
    start = RunStart(asked, workspace.root.parent, data="stored@v1", name=name)
    return running.train(start, workspace, lambda line: None).folder


def losses(folder: Path) -> list[float]:
    return [loss for logged in read_metrics(folder / "metrics.jsonl") if (loss := logged.get("loss")) is not None]


def losses_with_the_reference_in_memory(rows: Sequence[dict[str, object]], policy: Path, folder: Path) -> list[float]:
    """TRL's own, over the same tokens in their order."""

    class InOrder(DPOTrainer):
        def _prepare_dataset(self, dataset: Dataset, *others: object) -> Dataset:
            return dataset

        def _get_train_sampler(self, dataset: object = None) -> torch.utils.data.Sampler[int]:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    given = ARGS | {"activation_checkpointing": False, "num_train_epochs": 1}
    given.pop("gradient_checkpointing")
    # The learning rate falls over the steps of the run, which reads its rows twice.
    trainer = InOrder(
        model=AutoModelForCausalLM.from_pretrained(policy),
        ref_model=AutoModelForCausalLM.from_pretrained(policy),
        args=DPOConfig(output_dir=str(folder), use_cpu=True, bf16=False, report_to="none", disable_tqdm=True, **given),
        train_dataset=Dataset.from_list([{name: row[name] for name in TOKENS} for row in rows]),
        processing_class=tiny_tokenizer(),
    )
    assert not trainer.precompute_ref_logps
    trainer.train()
    return [logged["loss"] for logged in trainer.state.log_history if "loss" in logged]


def test_dpo_over_stored_sums_is_dpo_with_the_reference_in_memory(
    project: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*args: object) -> None:
        raise AssertionError("a reference model was opened")

    monkeypatch.setattr(streaming, "open_live_reference", opened)
    run = trained(project, recipe(), "held")
    rows = [row for table in served_rows(run / "recording") for row in table.to_pylist()]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        expected = losses_with_the_reference_in_memory(rows, project.root.parent / "policy", tmp_path)
    assert losses(run) == pytest.approx(expected, abs=1e-5)
    assert max(expected) - min(expected) > 0.05  # it learnt: the losses differ


def test_sums_of_another_length_or_policy_than_trained_are_computed_anew(
    project: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    stock = streaming.open_live_reference
    monkeypatch.setattr(streaming, "open_live_reference", lambda *args: opened.append(args) or stock(*args))
    held = losses(trained(project, recipe(), "held-again"))
    assert not opened
    other = trained(project, recipe(ARGS | {"max_length": 1000}), "computed")
    assert len(opened) == 1
    assert losses(other) == pytest.approx(held, abs=1e-5)
    save_tiny_policy(project.root.parent / "policy2", seed=9)
    moved = losses(trained(project, recipe(policy="policy2"), "of-another"))
    assert len(opened) == 2
    assert moved[0] == pytest.approx(0.6931, abs=1e-3)  # its own reference, not the one the version was checked against
