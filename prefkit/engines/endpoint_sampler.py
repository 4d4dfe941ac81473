"""Sampling from any OpenAI-compatible endpoint: text comes back, and nothing else.

A row carries no token ids and no log-probs, and its policy is what the recipe says it is: the model's name and your
revision of it. Retries, concurrency and what an answer means are those of the judges' transport. Each draw asks for a
seed of its own, which many endpoints ignore.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b

from prefkit.identity import Json
from prefkit.sampling.config import EndpointSampler as Settings
from prefkit.sampling.config import PolicyConfig, SampleConfig
from prefkit.sampling.protocol import (
    FinishReason,
    Message,
    Sample,
    SampleFailure,
    SampleFailureKind,
    SampleRequest,
)
from prefkit.scoring.judge.calls import Call, CallFailure, Reply, Transport
from prefkit.scoring.judge.endpoint import Endpoint
from prefkit.scoring.judge.live import LiveTransport
from prefkit.scoring.protocol import ScoreFailureKind

KINDS = {
    ScoreFailureKind.REFUSED: SampleFailureKind.REFUSED,
    ScoreFailureKind.TOO_LONG: SampleFailureKind.PROMPT_TOO_LONG,
    ScoreFailureKind.TIMEOUT: SampleFailureKind.TIMEOUT,
}
"""What a call's failure is for a draw; any other is a trouble of the connection."""


class EndpointSampler:
    """A model behind an endpoint that returns text."""

    def __init__(self, config: Settings, transport: Transport, policy_id: str) -> None:
        self._config = config
        self._transport = transport
        self._policy_id = policy_id
        self._system: list[Message] = [{"role": "system", "content": config.system}] if config.system else []

    @classmethod
    def open(cls, config: SampleConfig, policy: PolicyConfig | None, policy_id: str) -> "EndpointSampler":
        """Connects to nothing yet. Raises MissingExtraError without the openai package, RecipeError for a bad URL."""
        assert isinstance(config, Settings)
        assert policy is not None
        endpoint = Endpoint(
            config.endpoint,
            policy.model,
            config.temperature,
            config.api_key_env,
            timeout_s=config.timeout_s,
            role="policy",
            settings=_settings(config),
        )
        return cls(config, LiveTransport(endpoint, concurrency=config.batch_size), policy_id)

    @property
    def policy_id(self) -> str:
        return self._policy_id

    @property
    def policy_version(self) -> int:
        return 0

    @property
    def deterministic(self) -> bool:
        return False

    def sample(self, requests: Sequence[SampleRequest]) -> Iterator[Sequence[Sample | SampleFailure]]:
        """Yields draws as they finish. Raises EndpointError when no further one would: what was yielded stands."""
        for batch in self._transport.send([self._call(request) for request in requests]):
            yield [_outcome(bytes.fromhex(call.id), answer) for call, answer in batch]

    def _call(self, request: SampleRequest) -> Call:
        return Call(
            id=request.completion_id.hex(),
            messages=[*self._system, *request.prompt],
            max_tokens=self._config.max_new_tokens,
            seed=_seed(request.completion_id, self._config.seed),
        )


def _settings(config: Settings) -> dict[str, Json]:
    """What a request says besides its messages, temperature, length and seed. Unset settings are not sent at all.

    `top_k` is no part of OpenAI's interface, but most open servers know it.
    """
    settings: dict[str, Json] = {}
    if config.top_p < 1:
        settings["top_p"] = config.top_p
    if config.top_k is not None:
        settings["top_k"] = config.top_k
    if config.stop:
        settings["stop"] = list(config.stop)
    return settings


def _seed(completion_id: bytes, seed: int) -> int:
    """31 bits, which every server takes."""
    digest = blake2b(completion_id, digest_size=4, salt=seed.to_bytes(8, "little")).digest()
    return int.from_bytes(digest, "little") >> 1


def _outcome(completion_id: bytes, answer: Reply | CallFailure) -> Sample | SampleFailure:
    if isinstance(answer, CallFailure):
        kind = KINDS.get(answer.kind, SampleFailureKind.CONNECTION)
        return SampleFailure(completion_id, kind, answer.detail)
    if answer.refusal is not None:
        return SampleFailure(completion_id, SampleFailureKind.REFUSED, answer.refusal)
    if answer.finish_reason not in tuple(FinishReason):
        detail = f"the endpoint ended it: {answer.finish_reason}"
        return SampleFailure(completion_id, SampleFailureKind.REFUSED, detail)
    return Sample(
        completion_id=completion_id,
        text=answer.text,
        finish_reason=FinishReason(answer.finish_reason),
        token_ids=None,
        sampling_logprobs=None,
        behavior_logprobs=None,
    )
