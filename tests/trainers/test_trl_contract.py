"""What the trainer takes for granted of TRL and transformers beyond their documentation.

When one of these fails with another version, read what the overridden methods do there before changing the test.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

pytest.importorskip("trl")

from datasets import Dataset, IterableDataset
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState
from transformers.trainer_callback import DefaultFlowCallback
from trl import DPOConfig, DPOTrainer

from prefkit_trainers.arguments import LOSSES, REFUSED, dpo_config, saves_at
from prefkit_trainers.dpo import StreamDPOTrainer
from tests.trainers.builders import config, text_pairs, tiny_model, tiny_tokenizer, token_rows, trl_offline


def source(function: Callable[..., object]) -> str:
    """Code without its layout, so that a formatter changes nothing."""
    return re.sub(r"\s+", "", inspect.getsource(function))


def parameters(function: Callable[..., object]) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_versions_are_those_the_overrides_were_written_for() -> None:
    assert version("trl").startswith("1.16.")
    assert version("transformers").startswith("5.")


@pytest.mark.parametrize("name", ["_prepare_dataset", "_precompute_ref_logps", "get_train_dataloader", "log"])
def test_overridden_method_has_the_same_parameters(name: str) -> None:
    assert parameters(getattr(StreamDPOTrainer, name)) == parameters(getattr(DPOTrainer, name))


def test_prepare_dataset_is_called_by_the_constructor_and_by_evaluate_only() -> None:
    constructor = source(DPOTrainer.__init__)
    assert 'train_dataset=self._prepare_dataset(train_dataset,processing_class,args,"train")' in constructor
    callers = [name for name, method in vars(DPOTrainer).items() if inspect.isfunction(method)
               and "self._prepare_dataset(" in source(method)]  # fmt: skip
    assert callers == ["__init__", "evaluate"]


def test_precompute_ref_logps_is_called_by_the_constructor_and_by_evaluate_only() -> None:
    callers = [name for name, method in vars(DPOTrainer).items() if inspect.isfunction(method)
               and "self._precompute_ref_logps(" in source(method)]  # fmt: skip
    assert callers == ["__init__", "evaluate"]


def test_training_reads_the_loader_of_get_train_dataloader_as_it_is() -> None:
    loop = source(Trainer._inner_training_loop)
    assert "train_dataloader=self.get_train_dataloader()" in loop
    assert "accelerator.prepare(train_dataloader" not in loop + source(Trainer._prepare_for_training)


def test_stock_trainer_cannot_read_tokenised_rows(tmp_path: Path) -> None:
    rows = token_rows(text_pairs(4), tiny_model())
    with pytest.raises(KeyError, match="chosen"):
        trl_offline(rows, tmp_path, tiny_model())


def test_stock_trainer_refuses_to_precompute_for_a_stream(tmp_path: Path) -> None:
    def rows() -> Iterator[object]:
        yield from text_pairs(4)

    with pytest.raises(ValueError, match="not supported with IterableDataset"):
        DPOTrainer(
            model=tiny_model(),
            args=DPOConfig(output_dir=str(tmp_path), max_steps=1, precompute_ref_log_probs=True, use_cpu=True,
                           bf16=False, activation_checkpointing=False, report_to="none"),
            train_dataset=IterableDataset.from_generator(rows),
            processing_class=tiny_tokenizer(),
        )  # fmt: skip


def test_reference_of_the_loss_is_two_columns_of_sums_when_precomputed() -> None:
    loss = source(DPOTrainer._compute_loss)
    columns = 'ref_chosen_logps,ref_rejected_logps=inputs["ref_chosen_logps"],inputs["ref_rejected_logps"]'
    assert f"ifself.precompute_ref_logps:{columns}else:" in loss
    behind = loss[loss.index("chosen_logratios=chosen_logps-ref_chosen_logps") :]
    assert "ref_model" not in behind
    assert "ref_per_token_logps" not in behind


def test_fused_head_says_log_probs_and_is_called_once_for_a_loss(tmp_path: Path) -> None:
    loss = source(DPOTrainer._compute_loss)
    before = loss[: loss.index("ifself.precompute_ref_logps:")]
    assert before.count("model(") == 1
    assert "outputs=model(**model_kwargs,labels=labels,fused_lm_head=True)" in before
    assert "per_token_logps=outputs.log_probs[:,-seq_len:]" in before


def test_losses_are_all_those_of_trl() -> None:
    assert set(re.findall(r'loss_type=="(\w+)"', source(DPOTrainer._compute_loss))) == set(LOSSES)


def test_refused_arguments_are_arguments_of_trl() -> None:
    assert set(REFUSED) <= set(parameters(DPOConfig))


def test_whether_to_save_is_decided_before_other_callbacks_hear_of_the_step() -> None:
    from transformers.trainer import DEFAULT_CALLBACKS

    assert DEFAULT_CALLBACKS[0] is DefaultFlowCallback
    assert "default_callbacksifcallbacksisNoneelsedefault_callbacks+callbacks" in source(Trainer.__init__)
    epoch = source(Trainer._run_epoch)
    assert epoch.index("callback_handler.on_step_end(") < epoch.index("self._maybe_log_save_evaluate(")


@pytest.mark.parametrize("save_steps", [2, 3, 0.25, 0, -1, 100])
def test_stream_expects_a_checkpoint_where_transformers_decides_to_write_one(save_steps: float, tmp_path: Path) -> None:
    args = dpo_config(config(max_steps=10, save_strategy="steps", save_steps=save_steps), tmp_path)
    state = TrainerState(max_steps=10)
    state.compute_steps(args, 10)
    for step in range(1, 11):
        state.global_step = step
        decided = DefaultFlowCallback().on_step_end(args, state, TrainerControl()).should_save
        assert saves_at(args, step) == decided, step


def test_checkpoint_is_rotated_before_on_save_is_told() -> None:
    told = source(Trainer._maybe_log_save_evaluate)
    assert told.index("self._save_checkpoint(") < told.index("callback_handler.on_save(")
    saving = source(Trainer._save_checkpoint)
    assert saving.index("state.save_to_json(") < saving.index("rotate_checkpoints(")


def test_random_state_is_restored_before_the_loader_starts_when_no_data_is_skipped() -> None:
    epoch = source(Trainer._run_epoch)
    assert epoch.index("self._load_rng_state(resume_from_checkpoint)") < epoch.index("iter(train_dataloader)")


def test_load_from_checkpoint_takes_a_folder() -> None:
    assert parameters(Trainer._load_from_checkpoint)[:2] == ["self", "resume_from_checkpoint"]
    assert "self._load_from_checkpoint(resume_from_checkpoint)" in source(Trainer.train)


def test_sharding_is_asked_for_again_after_transformers_part_of_the_construction() -> None:
    constructor = source(DPOTrainer.__init__)
    behind = constructor[constructor.index("super().__init__(") :]
    assert "args.precompute_ref_log_probsandnotself.is_fsdp_enabled" in behind
    assert source(Trainer.__init__).index("on_init_end(") > source(Trainer.__init__).index("self.is_fsdp_enabled")
    assert "on_init_end" in vars(TrainerCallback)


def test_collator_adds_the_columns_of_sums(tmp_path: Path) -> None:
    trainer = trl_offline(text_pairs(4), tmp_path, tiny_model(), max_steps=1)
    assert isinstance(trainer.train_dataset, Dataset)
    batch = trainer.data_collator([dict(row) for row in trainer.train_dataset])
    assert {"ref_chosen_logps", "ref_rejected_logps"} <= set(batch)
