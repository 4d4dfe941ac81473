"""Reward models with transformers in this process: sequence classifiers with one output.

A score is the raw logit of prompt and completion in the model's own chat template. Texts are sorted by length and cut
into batches of so many tokens, so that little is padding; padding stands on the right and is masked, so in float32 a
score is the same to 1e-5 whatever it is batched with. A text that is too long for the model is a failure: a score of
its beginning would be the score of another text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from math import isfinite
from pathlib import Path

import torch
from transformers import PreTrainedModel

from prefkit.engines.batching import batches
from prefkit.engines.chat import Chat, UnsupportedContentError
from prefkit.engines.loading import context_length, load_reward_model, require_embeddings, torch_device
from prefkit.errors import RecipeError
from prefkit.scoring.config import RewardModelScorer, ScoreConfig
from prefkit.scoring.protocol import Score, ScoreFailure, ScoreFailureKind, ScoreRequest
from prefkit.scoring.reward_model import ROLE, reward_model_folder


@dataclass(frozen=True, slots=True)
class PlannedScore:
    """A request with its conversation as the model reads it."""

    request: ScoreRequest
    token_ids: Sequence[int]


class RewardModel:
    """Scores completions in batches of similar length."""

    def __init__(self, config: RewardModelScorer, model: PreTrainedModel, chat: Chat) -> None:
        self._config = config
        self._model = model
        self._chat = chat
        limits = [limit for limit in (context_length(model), chat.longest) if limit is not None]
        self._longest = min(limits, default=None)
        self._padding: int | None = model.config.get_text_config().pad_token_id

    @classmethod
    def open(cls, config: ScoreConfig, folder: Path) -> "RewardModel":
        """Loads weights and tokenizer. Raises SourceError, MissingExtraError or RecipeError in one line."""
        assert isinstance(config, RewardModelScorer)
        device = torch_device(config.device, "score")
        place = reward_model_folder(config, folder)
        chat = Chat.from_folder(place, trust_remote_code=config.trust_remote_code, role=ROLE)
        model = load_reward_model(place, getattr(torch, config.dtype), device, config.trust_remote_code)
        require_embeddings(model, chat.vocabulary, f"{ROLE} {config.model!r}")
        return cls(config, model, chat)

    @property
    def deterministic(self) -> bool:
        """False: the last bits of a score depend on what it is batched with."""
        return False

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[Sequence[Score | ScoreFailure]]:
        """Yields the requests that cannot be scored first, then batches with the longest texts first.

        So a batch that does not fit into memory shows at once. Raises RecipeError for that; what was yielded stands.
        """
        fitting, failures = planned(self._chat, requests, self._longest)
        if failures:
            yield failures
        fitting.sort(key=lambda p: (-len(p.token_ids), p.request.completion_id, p.request.repeat))
        for batch in batches([len(p.token_ids) for p in fitting], self._config.batch_tokens, self._config.batch_size):
            yield self._batch(fitting[batch])

    def _batch(self, batch: Sequence[PlannedScore]) -> list[Score | ScoreFailure]:
        texts = [p.token_ids for p in batch]
        padding = ending_of_none(texts) if self._padding is None else self._padding
        try:
            logits = raw_logits(self._model, texts, padding)
        except torch.OutOfMemoryError:
            raise RecipeError(
                f"score.batch_tokens is {self._config.batch_tokens}, which does not fit into the memory of "
                f"{self._model.device} with texts of {len(batch[0].token_ids)} tokens: lower it"
            ) from None
        return [outcome(p.request, logit) for p, logit in zip(batch, logits, strict=True)]


def planned(
    chat: Chat, requests: Sequence[ScoreRequest], longest: int | None
) -> tuple[list[PlannedScore], list[ScoreFailure]]:
    """The requests whose conversation the model can read, in at most `longest` tokens, and the others' failures."""
    texts: list[tuple[ScoreRequest, str]] = []
    failures: list[ScoreFailure] = []
    for request in requests:
        try:
            texts.append((request, _text(chat, request)))
        except UnsupportedContentError as error:
            why = f"the chat template of the reward model refuses this conversation: {error}"
            failures.append(_failure(request, ScoreFailureKind.REFUSED, why))
    fitting: list[PlannedScore] = []
    for (request, _), token_ids in zip(texts, chat.token_ids([t for _, t in texts]), strict=True):
        if not token_ids:
            failures.append(_failure(request, ScoreFailureKind.REFUSED, "the chat template gives an empty text"))
        elif longest is not None and len(token_ids) > longest:
            why = f"{len(token_ids)} tokens, expected at most {longest}"
            failures.append(_failure(request, ScoreFailureKind.TOO_LONG, why))
        else:
            fitting.append(PlannedScore(request, token_ids))
    return fitting, failures


def ending_of_none(texts: Sequence[Sequence[int]]) -> int:
    """The first token that no text ends with.

    It pads for models that name no padding token. Classifiers on top of decoders read the last token that is not
    padding: were it one that texts end with, such as the end of a turn, they would read the token before.
    """
    ends = {text[-1] for text in texts}
    return next(token for token in count() if token not in ends)


@torch.inference_mode()
def raw_logits(model: PreTrainedModel, texts: Sequence[Sequence[int]], padding: int) -> list[float]:
    """The classifier's one output for each text, from one forward pass. The longest text comes first."""
    longest = len(texts[0])
    model.config.get_text_config().pad_token_id = padding
    output = model(
        input_ids=torch.tensor([[*t, *[padding] * (longest - len(t))] for t in texts], device=model.device),
        attention_mask=torch.tensor([[1] * len(t) + [0] * (longest - len(t)) for t in texts], device=model.device),
    )
    return output.logits.float().squeeze(-1).tolist()


def _text(chat: Chat, request: ScoreRequest) -> str:
    return chat.conversation_text([*request.prompt, {"role": "assistant", "content": request.completion}])


def _failure(request: ScoreRequest, kind: ScoreFailureKind, why: str) -> ScoreFailure:
    return ScoreFailure(request.completion_id, request.aspect, request.repeat, kind, why)


def outcome(request: ScoreRequest, logit: float) -> Score | ScoreFailure:
    """The score, or the failure of a logit that is not finite."""
    if not isfinite(logit):
        return _failure(request, ScoreFailureKind.UNPARSABLE, f"the reward model gave {logit}")
    return Score(request.completion_id, request.aspect, request.repeat, logit)
