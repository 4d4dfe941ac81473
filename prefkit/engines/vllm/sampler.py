"""Sampling with vLLM, in this process or from its server.

Prompts go in as token ids, rendered as the transformers backend renders them, and token ids come out. Every draw is a
request of its own with a seed that belongs to the draw, so it does not depend on what else is drawn; but its logits do,
in their last bits, on what it is batched with. The tokens are therefore nearly always the same and not promised to be:
`deterministic` is False.

Both log-probs are exact. At temperature 0, and at 1 without truncation, one pass gives both; otherwise every finished
draw is read once more (see `asks`), for about the price of reading a prompt.
"""

from collections.abc import Iterator, Sequence
from math import isfinite
from pathlib import Path
from typing import TypeAlias

from transformers import AutoConfig, GenerationConfig

from prefkit.engines.chat import Chat, first_line
from prefkit.engines.gathering import gathered
from prefkit.engines.planning import Planned, first_stop, planned
from prefkit.engines.probe import coarsest, require_agreement, require_probe
from prefkit.engines.vllm.asks import Answer, Ask, AskFailure, Engine, read_logprobs, reading, row_seed
from prefkit.engines.vllm.engine import LocalEngine
from prefkit.engines.vllm.model import require_model
from prefkit.engines.vllm.probe import SHORTEST_PROMPT, measured
from prefkit.engines.vllm.server import ServerEngine
from prefkit.engines.vllm.weights import layout, weight_files
from prefkit.engines.weights import fitting
from prefkit.errors import RecipeError, SourceError, SyncError
from prefkit.sampling.config import PolicyConfig, SampleConfig, SamplerConfig
from prefkit.sampling.config import VllmSampler as LocalSettings
from prefkit.sampling.config import VllmServerSampler as ServerSettings
from prefkit.sampling.policy import policy_folder
from prefkit.sampling.protocol import FinishReason, Sample, SampleFailure, SampleFailureKind, SampleRequest
from prefkit.sampling.weights import Weights

Settings: TypeAlias = LocalSettings | ServerSettings

COLDEST = 0.01
"""vLLM samples at this temperature when it is asked for a lower one above 0."""
READING = "reading "


class VllmSampler:
    """A policy in vLLM: draws, and follows the weights of a training."""

    def __init__(self, config: Settings, engine: Engine, chat: Chat, folder: Path, policy_id: str) -> None:
        """`folder` is the policy's: its tokens that end a turn, and the layout of its weights."""
        self._config = config
        self._shared = Path(config.weights_folder).expanduser() if config.weights_folder else None
        self._engine = engine
        self._chat = chat
        self._folder = folder
        self._policy_id = policy_id
        self._eos_ids = tuple(sorted(chat.eos_ids(_generation_config(folder))))
        self._version: int | None = 0 if engine.label() is None else None

    @classmethod
    def open(cls, config: SampleConfig, policy: PolicyConfig | None, policy_id: str) -> "VllmSampler":
        """Loads the policy into vLLM in this process. Raises MissingExtraError, RecipeError or SourceError."""
        assert isinstance(config, LocalSettings)
        assert policy is not None
        _require_temperature(config)
        folder = policy_folder(policy.model, policy.revision)
        chat = _chat(config, policy, folder)
        engine = LocalEngine.open(
            folder,
            {
                "dtype": config.dtype,
                "max_model_len": config.context,
                "max_num_seqs": config.batch_size,
                "gpu_memory_utilization": config.gpu_memory,
                "tensor_parallel_size": config.gpus,
                "trust_remote_code": policy.trust_remote_code,
                "logprobs_mode": "processed_logprobs",
            },
        )
        return cls(config, engine, chat, folder, policy_id)

    @property
    def policy_id(self) -> str:
        return self._policy_id

    @property
    def policy_version(self) -> int:
        """The version of the last sync. Raises SyncError when the weights are not known."""
        return self._known_version()

    @property
    def deterministic(self) -> bool:
        return False

    def close(self) -> None:
        """Frees the engine's memory, or the connections to it."""
        self._engine.close()

    def sample(self, requests: Sequence[SampleRequest]) -> Iterator[Sequence[Sample | SampleFailure]]:
        """Yields the requests that cannot be sampled first, then the others as they finish, `batch_size` at a time.

        Raises EndpointError when a server is gone and SyncError when the weights are not known; what was yielded
        stands.
        """
        self._known_version()
        new_tokens = self._config.max_new_tokens
        fitting, failures = planned(self._chat, requests, self._engine.context, new_tokens)
        if failures:
            yield failures
        try:
            yield from gathered(self._drawn(fitting), self._config.batch_size)
        finally:
            self._engine.cancel()

    def sync(self, weights: Weights, policy_version: int) -> float:
        """See `SyncedSampler`. The weights travel as files through a folder that the engine sees too."""
        if self._engine.busy:
            raise SyncError("sampler is still drawing, expected no draws under way: finish or close them before a sync")
        sent = fitting(weights.tensors(), layout(self._folder))
        probe = require_probe(weights.probe(), self._engine.context, SHORTEST_PROMPT)
        with weight_files(sent, self._shared) as files:
            if self._version is not None:
                measured(self._engine, probe)  # so that the prompt is in the cache as the old weights read it
            self._version = None
            self._engine.load(files, str(policy_version))
        self._engine.reset_cache()
        dtype = coarsest(self._config.dtype, sent.values())
        difference = require_agreement(probe, measured(self._engine, probe), dtype)
        self._version = policy_version
        return difference

    def _known_version(self) -> int:
        if self._version is None:
            raise SyncError(
                f"sampler of {self._policy_id} holds unknown weights, expected those of the policy or of a sync that "
                f"succeeded: sync it or start it again"
            )
        return self._version

    def _drawn(self, fitting: Sequence[Planned]) -> Iterator[Sequence[Sample | SampleFailure]]:
        running = {p.request.completion_id.hex(): p for p in fitting}
        unread: dict[str, Answer] = {}
        for id, one in running.items():
            self._engine.submit(self._ask(id, one))
        while finished := self._engine.finished():
            outcomes: list[Sample | SampleFailure] = []
            for id, answer in finished:
                draw = id.removeprefix(READING)
                if isinstance(answer, AskFailure):
                    outcomes.append(SampleFailure(bytes.fromhex(draw), answer.kind, answer.detail))
                elif draw in unread:
                    first = unread.pop(draw)
                    outcomes.append(self._sample(draw, first, read_logprobs(answer, len(first.token_ids))))
                elif self._one_pass:
                    outcomes.append(self._sample(draw, answer, answer.logprobs))
                else:
                    unread[draw] = answer
                    self._engine.submit(reading(READING + draw, running[draw].token_ids, answer.token_ids))
            yield outcomes

    @property
    def _one_pass(self) -> bool:
        return gives_both(self._config)

    def _ask(self, id: str, one: Planned) -> Ask:
        config = self._config
        return Ask(
            id=id,
            prompt_ids=one.token_ids,
            seed=row_seed(one.request.completion_id, config.seed),
            max_tokens=config.max_new_tokens,
            temperature=config.temperature,
            top_p=config.top_p,
            top_k=config.top_k,
            stop=config.stop,
            eos_ids=self._eos_ids,
        )

    def _sample(self, draw: str, answer: Answer, behavior_logprobs: Sequence[float]) -> Sample | SampleFailure:
        completion_id = bytes.fromhex(draw)
        if not all(map(isfinite, (*answer.logprobs, *behavior_logprobs))):
            detail = "the policy gave log-probs that are not finite"
            return SampleFailure(completion_id, SampleFailureKind.ABORTED, detail)
        text = self._chat.text(answer.token_ids)
        return Sample(
            completion_id=completion_id,
            text=text[: first_stop(text, self._config.stop)],
            finish_reason=FinishReason(answer.finish_reason),
            token_ids=answer.token_ids,
            sampling_logprobs=answer.logprobs if self._config.temperature else [0.0] * len(answer.logprobs),
            behavior_logprobs=behavior_logprobs,
        )


class VllmServerSampler(VllmSampler):
    """A policy behind vLLM's server."""

    @classmethod
    def open(cls, config: SampleConfig, policy: PolicyConfig | None, policy_id: str) -> "VllmServerSampler":
        """Meets the server. Raises EndpointError, RecipeError or SourceError."""
        assert isinstance(config, ServerSettings)
        assert policy is not None
        _require_temperature(config)
        folder = policy_folder(policy.model, policy.revision)
        chat = _chat(config, policy, folder)
        engine = ServerEngine.open(config, {policy.model, str(folder)})
        sampler = cls(config, engine, chat, folder, policy_id)
        if not gives_both(config):
            engine.require_processed_logprobs(chat.prompt_ids([{"role": "user", "content": "Hello"}]))
        return sampler


def gives_both(config: SamplerConfig) -> bool:
    """Whether the log-probs of a draw are also those at T = 1 over the full vocabulary, or certain to be 0."""
    return config.temperature == 0 or (config.temperature == 1 and config.top_p == 1 and config.top_k is None)


def _require_temperature(config: SamplerConfig) -> None:
    if 0 < config.temperature < COLDEST:
        raise RecipeError(
            f"sample.temperature is {config.temperature}, expected 0 or at least {COLDEST}: vLLM knows none in between"
        )


def _chat(config: SamplerConfig, policy: PolicyConfig, folder: Path) -> Chat:
    chat = Chat.from_folder(folder, config.system, policy.trust_remote_code)
    require_model(folder, chat.vocabulary, policy.trust_remote_code, f"policy {policy.model!r}")
    return chat


def _generation_config(folder: Path) -> GenerationConfig:
    try:
        return GenerationConfig.from_pretrained(folder)
    except OSError:
        return GenerationConfig.from_model_config(AutoConfig.from_pretrained(folder))
    except ValueError as error:
        raise SourceError(f"policy {str(folder)!r} has an unreadable generation config: {first_line(error)}") from None
