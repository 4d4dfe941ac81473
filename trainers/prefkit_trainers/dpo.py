"""TRL's DPOTrainer over a stream: rows come tokenised and with their reference sums, so nothing is prepared.

What is overridden of TRL is private, and held to version 1.16 by contract tests.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from datasets import Dataset, IterableDataset
from peft import PeftConfig
from torch.utils.data import DataLoader
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from prefkit_trainers.log_ratios import LogRatios
from prefkit_trainers.rows import StreamRows, stand_in


class StreamDPOTrainer(DPOTrainer):
    """DPO, and TRL's other losses of pairs, on the rows of a stream; holds one model.

    `metrics` gives the numbers that are logged beside TRL's own.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: DPOConfig,
        rows: StreamRows,
        tokenizer: PreTrainedTokenizerBase,
        callbacks: Sequence[TrainerCallback] = (),
        metrics: Callable[[], Mapping[str, float]] = dict[str, float],
        peft_config: PeftConfig | None = None,
    ) -> None:
        self._rows = rows
        self._stream_metrics = metrics
        super().__init__(
            model=model,
            ref_model=None,
            args=args,
            train_dataset=stand_in(),
            processing_class=tokenizer,
            callbacks=[_Constructed(self._hide_sharding), *callbacks],
            peft_config=peft_config,
        )
        self.is_fsdp_enabled = self._is_sharded
        self._ratios = LogRatios()
        cast(torch.nn.Module, self.model).register_forward_hook(self._ratios.hear)

    def _hide_sharding(self) -> None:
        # Where weights are sharded, TRL loads a reference model, computes log-probs with it and drops it.
        self._is_sharded, self.is_fsdp_enabled = self.is_fsdp_enabled, False

    def _prepare_dataset(
        self,
        dataset: Dataset | IterableDataset,
        processing_class: object,
        args: DPOConfig,
        dataset_name: str,
    ) -> Dataset | IterableDataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        return dataset

    def get_train_dataloader(self) -> DataLoader[dict[str, object]]:
        """Reads a batch when it is asked for and not before: every row is sampled from weights of the last sync.

        Its generator is its own, since a loader draws a number when it starts, and that would change a resumed run.
        Accelerate must not have it: it reads ahead, and every rank's stream already gives that rank's own rows.
        """
        return DataLoader(
            self._rows,
            batch_size=self._train_batch_size,
            collate_fn=self.data_collator,
            generator=torch.Generator(),
            pin_memory=self.args.dataloader_pin_memory and torch.cuda.is_available(),
        )

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, object]:
        """As TRL's; how far the policy is from the reference on these rows is remembered."""
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        self._ratios.add(inputs, self._gathered)
        return loss

    def _gathered(self, values: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.accelerator.gather(values))

    def load_weights(self, checkpoint: Path) -> None:
        """The weights of a checkpoint, and nothing else of it: for a training that has no step left."""
        self._load_from_checkpoint(str(checkpoint))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As TRL's, to the same reporters, with the stream's metrics and the distance from the reference."""
        ours = {**self._stream_metrics(), **self._ratios.take()} if "loss" in logs else {}
        super().log({**logs, **ours}, start_time)


class _Constructed(TrainerCallback):
    """Tells when the part of the construction that is transformers' is over; TRL's goes on."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell

    def on_init_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self._tell()
