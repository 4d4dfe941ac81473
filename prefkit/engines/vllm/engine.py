"""vLLM in this process: its engine is stepped by us, so that finished draws can be stored while others run.

On a CPU nothing is compiled, which would need a C++ compiler at the first token, and prompts are read whole.
Environment variables that you set yourself stay as they are. vLLM seeds the global random generators of its process
and takes away `torch.set_num_threads`; both are put back.
"""

import os
import random
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten
from typing import Protocol, cast

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError

from prefkit.engines.chat import first_line
from prefkit.engines.vllm.asks import Answer, Ask, AskFailure, Outcome, parameters
from prefkit.errors import MissingExtraError, SourceError, SyncError
from prefkit.identity import Json
from prefkit.sampling.protocol import SampleFailureKind

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine runs in this process and ends with it
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}
CPU_ENVIRONMENT = {
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "4",  # GiB; by default nine tenths of the machine's memory
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
LONGEST_REASON = 200
WORKER = "prefkit.engines.vllm.worker.WeightReload"


class _Logprob(Protocol):
    @property
    def logprob(self) -> float: ...


class _Completion(Protocol):
    token_ids: Sequence[int]
    logprobs: Sequence[Mapping[int, _Logprob]]
    finish_reason: str | None


class _Output(Protocol):
    request_id: str
    prompt_token_ids: Sequence[int]
    prompt_logprobs: Sequence[Mapping[int, _Logprob] | None] | None
    outputs: Sequence[_Completion]
    finished: bool


class _ModelConfig(Protocol):
    max_model_len: int


class _EngineCore(Protocol):
    def shutdown(self) -> None: ...


class _Llm(Protocol):
    """What is used of vLLM's engine."""

    model_config: _ModelConfig
    engine_core: _EngineCore

    def add_request(self, request_id: str, prompt: object, params: object) -> str: ...
    def has_unfinished_requests(self) -> bool: ...
    def step(self) -> Sequence[_Output]: ...
    def abort_request(self, request_ids: list[str]) -> None: ...
    def reset_prefix_cache(self) -> bool: ...
    def collective_rpc(self, method: str, *, args: tuple[object, ...] = ()) -> list[object]: ...


class _Pooled(Protocol):
    data: torch.Tensor


class _PoolingOutput(Protocol):
    request_id: str
    outputs: _Pooled
    finished: bool


class PoolingLlm(Protocol):
    """What is used of vLLM's engine when it runs a model that gives a value instead of text."""

    model_config: _ModelConfig
    engine_core: _EngineCore

    def add_request(self, request_id: str, prompt: object, params: object) -> str: ...
    def has_unfinished_requests(self) -> bool: ...
    def step(self) -> Sequence[_PoolingOutput]: ...
    def abort_request(self, request_ids: list[str]) -> None: ...


class LocalEngine:
    """vLLM in this process."""

    def __init__(self, llm: _Llm) -> None:
        self._llm = llm
        self._asks: dict[str, Ask] = {}

    @classmethod
    def open(cls, folder: Path, settings: Mapping[str, Json], role: str = "policy") -> "LocalEngine":
        """Loads the model of a folder, which messages call `role`. `settings` are vLLM's engine arguments.

        Raises MissingExtraError without vLLM, SourceError for a model it cannot serve.
        """
        return cls(cast(_Llm, opened(folder, {**settings, "worker_extension_cls": WORKER}, role)))

    @property
    def context(self) -> int:
        return self._llm.model_config.max_model_len

    @property
    def busy(self) -> bool:
        return bool(self._asks)

    def submit(self, ask: Ask) -> None:
        self._asks[ask.id] = ask
        self._llm.add_request(ask.id, {"prompt_token_ids": list(ask.prompt_ids)}, _sampling_params(ask))

    def finished(self) -> Sequence[Outcome]:
        while self._llm.has_unfinished_requests():
            done = [output for output in self._llm.step() if output.finished]
            if done:
                return [(o.request_id, _answer(self._asks.pop(o.request_id), o)) for o in done]
        return ()

    def cancel(self) -> None:
        self._llm.abort_request(list(self._asks))
        self._asks.clear()

    def load(self, files: Sequence[str], label: str) -> None:
        try:
            self._llm.collective_rpc("prefkit_load", args=(list(files), label))
        except Exception as error:
            raise SyncError(f"vLLM could not load the weights it was sent: {first_line(error)}; start anew") from error

    def reset_cache(self) -> None:
        if not self._llm.reset_prefix_cache():
            raise SyncError("vLLM could not reset its prefix cache, expected no requests under way; start anew")

    def label(self) -> str | None:
        return cast("Mapping[str, str | None]", self._llm.collective_rpc("prefkit_weights")[0])["label"]

    def close(self) -> None:
        self.cancel()
        self._llm.engine_core.shutdown()


def opened(folder: Path, settings: Mapping[str, Json], role: str = "policy") -> object:
    """An engine of vLLM's for the model of a folder, which messages call `role`. Raises as `LocalEngine.open`."""
    if find_spec("vllm") is None:
        raise MissingExtraError(f"a {role} in vLLM needs vllm, which is not installed: pip install 'prefkit[vllm]'")
    on_cpu = not torch.cuda.is_available()
    for name, value in (ENVIRONMENT | (CPU_ENVIRONMENT if on_cpu else {})).items():
        os.environ.setdefault(name, value)
    from vllm.engine.arg_utils import EngineArgs  # pyright: ignore[reportMissingImports]
    from vllm.v1.engine.llm_engine import LLMEngine  # pyright: ignore[reportMissingImports]

    arguments: dict[str, Json] = {
        "model": str(folder),
        "enforce_eager": on_cpu,
        # On a CPU vLLM (0.28) ends in an error when it splits the prompt of a request that has a seed.
        "enable_chunked_prefill": False if on_cpu else None,
        "generation_config": "vllm",
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        **settings,
    }
    try:
        with _unchanged_process():
            return cast(object, LLMEngine.from_engine_args(EngineArgs(**arguments)))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise SourceError(f"{role} {str(folder)!r} cannot be opened by vLLM: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """An error in one line; pydantic's first says only how many there are."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]["msg"].removeprefix("Value error, ")
        return shorten(first, LONGEST_REASON, placeholder=" ...")
    return first_line(error)


@contextmanager
def _unchanged_process() -> Generator[None]:
    """Puts back what an engine in this process changes for everybody."""
    python, numpy, set_num_threads = random.getstate(), np.random.get_state(), torch.set_num_threads  # noqa: NPY002
    with torch.random.fork_rng():
        try:
            yield
        finally:
            torch.set_num_threads = set_num_threads
            np.random.set_state(numpy)  # noqa: NPY002  theirs, not ours
            random.setstate(python)


def _sampling_params(ask: Ask) -> object:
    from vllm.sampling_params import RequestOutputKind, SamplingParams  # pyright: ignore[reportMissingImports]

    return cast(
        object,
        SamplingParams(**parameters(ask), output_kind=RequestOutputKind.FINAL_ONLY, detokenize=bool(ask.stop)),
    )


def _answer(ask: Ask, output: _Output) -> Answer | AskFailure:
    (completion,) = output.outputs
    if completion.finish_reason not in ("stop", "length"):
        return AskFailure(SampleFailureKind.ABORTED, f"vLLM ended it: {completion.finish_reason}")
    of_prompt = zip(ask.prompt_ids[1:], (output.prompt_logprobs or ())[1:], strict=False)
    return Answer(
        token_ids=list(completion.token_ids),
        logprobs=[entry[t].logprob for t, entry in zip(completion.token_ids, completion.logprobs, strict=True)],
        finish_reason=completion.finish_reason,
        prompt_logprobs=[entry[token].logprob for token, entry in of_prompt if entry is not None],
        read_logprob=None if ask.read_token is None else completion.logprobs[0][ask.read_token].logprob,
    )
