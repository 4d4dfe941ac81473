"""Reward models with vLLM in this process: sequence classifiers with one output, through its pooling runner.

A score is the raw logit of prompt and completion in the model's own chat template, as with the transformers engine:
vLLM's own scores are its sigmoid. Texts go in as token ids and are batched as they come. What does not fit is a
failure.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from prefkit.engines.chat import Chat
from prefkit.engines.gathering import gathered
from prefkit.engines.reward_model import PlannedScore, outcome, planned
from prefkit.engines.vllm.engine import PoolingLlm, opened
from prefkit.engines.vllm.model import require_weights
from prefkit.errors import SourceError
from prefkit.scoring.config import ScoreConfig, VllmRewardModelScorer
from prefkit.scoring.protocol import Score, ScoreFailure, ScoreRequest
from prefkit.scoring.reward_model import ROLE, reward_model_folder


class VllmRewardModel:
    """Scores completions, `batch_size` under way at a time."""

    def __init__(self, config: VllmRewardModelScorer, llm: PoolingLlm, chat: Chat) -> None:
        self._config = config
        self._llm = llm
        self._chat = chat

    @classmethod
    def open(cls, config: ScoreConfig, folder: Path) -> "VllmRewardModel":
        """Loads the model into vLLM. Raises SourceError or MissingExtraError in one line."""
        assert isinstance(config, VllmRewardModelScorer)
        place = reward_model_folder(config, folder)
        chat = Chat.from_folder(place, trust_remote_code=config.trust_remote_code, role=ROLE)
        _require_classifier(place, config.trust_remote_code)
        settings = {
            "runner": "pooling",
            "dtype": config.dtype,
            "max_num_seqs": config.batch_size,
            "gpu_memory_utilization": config.gpu_memory,
            "trust_remote_code": config.trust_remote_code,
        }
        return cls(config, cast(PoolingLlm, opened(place, settings, ROLE)), chat)

    @property
    def deterministic(self) -> bool:
        """False: the last bits of a score depend on what it is batched with."""
        return False

    def close(self) -> None:
        """Frees the engine's memory."""
        self._llm.engine_core.shutdown()

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[Sequence[Score | ScoreFailure]]:
        """Yields the requests that cannot be scored first, then the others as they finish, `batch_size` at a time."""
        # One token is left to a generation that never happens.
        fitting, failures = planned(self._chat, requests, self._llm.model_config.max_model_len - 1)
        if failures:
            yield failures
        try:
            yield from gathered(self._scored(fitting), self._config.batch_size)
        finally:
            self._llm.abort_request([str(place) for place in range(len(fitting))])

    def _scored(self, fitting: Sequence[PlannedScore]) -> Iterator[Sequence[Score | ScoreFailure]]:
        from vllm.pooling_params import PoolingParams  # pyright: ignore[reportMissingImports]

        for place, one in enumerate(fitting):
            prompt = {"prompt_token_ids": list(one.token_ids)}
            self._llm.add_request(str(place), prompt, PoolingParams(task="classify", use_activation=False))
        while self._llm.has_unfinished_requests():
            done = [output for output in self._llm.step() if output.finished]
            yield [outcome(fitting[int(o.request_id)].request, _logit(o.outputs.data)) for o in done]


def _logit(data: torch.Tensor) -> float:
    return float(data.float().reshape(1)[0])


def _require_classifier(folder: Path, trust_remote_code: bool) -> None:
    """Refuses what vLLM would turn into a classifier by random weights, or complete with them."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    kinds = cast("list[str] | None", config.architectures) or ["model"]
    if not any("SequenceClassification" in kind for kind in kinds) or config.num_labels != 1:
        raise SourceError(
            f"{ROLE} {str(folder)!r} is a {'/'.join(kinds)} with {config.num_labels} outputs, expected a sequence "
            "classifier with one output: name a model that was trained as one"
        )
    require_weights(folder, AutoModelForSequenceClassification, config, trust_remote_code, f"{ROLE} {str(folder)!r}")
