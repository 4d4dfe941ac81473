"""The one callback that a trainer has of us: on every rank it reports optimizer steps to the stream, which decides."""

from collections.abc import Mapping
from typing import cast

from accelerate import PartialState
from peft import PeftModel
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import IntervalStrategy

from prefkit.stream.protocol import TrainingStream
from prefkit_trainers.weights import ModelWeights


class Clock(TrainerCallback):
    """Reports when training begins, when a step is over, and around every checkpoint.

    It stands behind transformers' own callback, which decides in `on_step_end` whether to save, and before the trainer
    does so: a checkpoint never lacks the stream's state.
    """

    def __init__(self, stream: TrainingStream, tokenizer: PreTrainedTokenizerBase) -> None:
        self._stream = stream
        self._tokenizer = tokenizer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self._stream.begin(state.global_step, self._weights(kwargs))

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        state.epoch = state.global_step / state.max_steps  # a stream has no epochs; a resumed run would count others
        weights = self._weights(kwargs)
        self._stream.step_done(state.global_step, weights)
        if state.global_step >= state.max_steps and args.logging_strategy != IntervalStrategy.NO:
            control.should_log = True  # however short a run is, its end is known
        if control.should_save:
            self._stream.save(state.global_step, weights)
            PartialState().wait_for_everyone()  # the first rank's checkpoint removes an older one

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        PartialState().wait_for_everyone()  # only the first rank writes most of the checkpoint
        self._stream.saved(state.global_step)

    def _weights(self, kwargs: Mapping[str, object]) -> ModelWeights:
        return ModelWeights(cast("PreTrainedModel | PeftModel", kwargs["model"]), self._tokenizer)
