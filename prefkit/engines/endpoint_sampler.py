"""Sampling from any OpenAI-compatible endpoint: text comes back, and nothing else.

A row carries no token ids and no log-probs, and its policy is what the recipe says it is: the model's name and your
revision of it. Retries, concurrency, the budget and what an answer means are those of the judges' transport. Each draw
asks for a seed of its own, which many endpoints ignore.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b

from prefkit.identity import Json
from prefkit.sampling.config import EndpointSampler as Settings
from prefkit.sampling.config import PolicyConfig, SampleConfig
from prefkit.sampling.protocol import (
    FinishReason,
    Sample,
    SampleFailure,
    SampleFailureKind,
    SampleRequest,
    with_system,
)
from prefkit.scoring.judge.calls import Call, CallFailure, Reply, Transport
from prefkit.scoring.judge.endpoint import Endpoint
from prefkit.scoring.judge.live import LiveTransport
from prefkit.scoring.protocol import ScoreFailureKind
from prefkit.spending import Budget

KINDS = {
    ScoreFailureKind.REFUSED: SampleFailureKind.REFUSED,
    ScoreFailureKind.TOO_LONG: SampleFailureKind.PROMPT_TOO_LONG,
    ScoreFailureKind.OVER_BUDGET: SampleFailureKind.OVER_BUDGET,
    ScoreFailureKind.TIMEOUT: SampleFailureKind.TIMEOUT,
}
"""What a call's failure is for a draw; any other is a trouble of the connection."""


class EndpointSampler:
    """A model behind an endpoint that returns text."""

    def __init__(self, config: Settings, transport: Transport, policy_id: str) -> None:
        self._config = config
        self._transport = transport
        self._policy_id = policy_id

    @classmethod
    def open(
        cls, config: SampleConfig, policy: PolicyConfig | None, policy_id: str, budget: Budget
    ) -> "EndpointSampler":
        """Connects to nothing yet; its draws count toward `budget`.

        Raises MissingExtraError without the openai package, and RecipeError for a bad URL, a key that is not set, or a
        budget in money without a price.
        """
        assert isinstance(config, Settings)
        assert policy is not None
        endpoint = Endpoint(
            config.endpoint,
            policy.model,
            config.temperature,
            config.api_key_env,
            config.price,
            timeout_s=config.timeout_s,
            role="policy",
            settings=_settings(config),
        )
        return cls(config, LiveTransport(endpoint, budget, config.batch_size), policy_id)

    @property
    def policy_id(self) -> str:
        return self._policy_id

    @property
    def policy_version(self) -> int:
        return 0

    @property
    def deterministic(self) -> bool:
        return False

    def close(self) -> None:
        """Every `sample` closes its own connections."""

    def sample(self, requests: Sequence[SampleRequest]) -> Iterator[Sequence[Sample | SampleFailure]]:
        """Yields draws as they finish. Raises EndpointError when no further one would: what was yielded stands."""
        for batch in self._transport.send([self._call(request) for request in requests]):
            yield [_outcome(bytes.fromhex(call.id), answer) for call, answer in batch]

    def _call(self, request: SampleRequest) -> Call:
        return Call(
            id=request.completion_id.hex(),
            messages=with_system(request.prompt, self._config.system),
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
