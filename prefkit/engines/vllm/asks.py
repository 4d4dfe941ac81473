"""What is asked of vLLM and what comes back, the same for an engine in this process and for a server.

Every ask is for one completion with a seed of its own. An `Engine` takes asks and gives finished ones back in any
order, so that what is done can be stored while the rest runs.

Log-probs. vLLM reports those of generated tokens either before temperature and truncation or after them (its
`logprobs_mode`), those of a prompt's tokens always before. A finished draw is therefore read once more where the two
differ: its tokens but the last as a prompt, the last as a token whose log-prob is asked for at T = 1 without
truncation, where both modes agree. So the reading fits wherever the draw did.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol, TypeAlias

from prefkit.identity import Json
from prefkit.sampling.protocol import SampleFailureKind


@dataclass(frozen=True, slots=True)
class Ask:
    """A request for one completion of a prompt given in tokens."""

    id: str
    prompt_ids: Sequence[int]
    seed: int
    max_tokens: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    eos_ids: tuple[int, ...] = ()
    read_prompt: bool = False
    """Whether the log-probs of the prompt's tokens are wanted."""
    read_token: int | None = None
    """A token whose log-prob as the first generated one is wanted, whatever is generated."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished ask; `token_ids` and `logprobs` have one length, an end-of-sequence token included."""

    token_ids: Sequence[int]
    logprobs: Sequence[float]
    finish_reason: str
    prompt_logprobs: Sequence[float] = ()
    """Of the prompt's tokens but the first, when asked for."""
    read_logprob: float | None = None
    """Of the token to read."""


@dataclass(frozen=True, slots=True)
class AskFailure:
    """An ask that gave no completion."""

    kind: SampleFailureKind
    detail: str


Outcome: TypeAlias = tuple[str, Answer | AskFailure]
"""An ask's id and what came of it."""


class Engine(Protocol):
    """vLLM with a model, wherever it runs."""

    @property
    def context(self) -> int:
        """Most tokens of a prompt and its completion together."""
        ...

    @property
    def busy(self) -> bool:
        """Whether asks are under way."""
        ...

    def submit(self, ask: Ask) -> None:
        """Begins with an ask, or queues it."""
        ...

    def finished(self) -> Sequence[Outcome]:
        """Waits until at least one ask is finished; empty when none is under way.

        Raises EndpointError when the engine is gone, after everything that did finish has been given out.
        """
        ...

    def cancel(self) -> None:
        """Gives up all asks under way; they never come back."""
        ...

    def load(self, files: Sequence[str], label: str) -> None:
        """Replaces the weights by those of safetensors files. Raises SyncError; then the engine holds neither."""
        ...

    def reset_cache(self) -> None:
        """Forgets the prompts read under other weights. Raises SyncError when it cannot."""
        ...

    def label(self) -> str | None:
        """The label of the weights that were last loaded; None when they are those it was started with."""
        ...

    def close(self) -> None:
        """Frees what the engine holds in this process."""
        ...


def parameters(ask: Ask) -> dict[str, Json]:
    """The sampling parameters of vLLM, under the names that its Python and its HTTP interface share.

    All that a server could fill in from a model's own generation config is given. The tokens that end a turn are given
    as stop tokens and vLLM's own idea of them is switched off, so that every backend ends a draw at the same ones.
    """
    return {
        "n": 1,
        "seed": ask.seed,
        "max_tokens": ask.max_tokens,
        "temperature": ask.temperature,
        "top_p": ask.top_p,
        "top_k": ask.top_k or 0,
        "min_p": 0.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "repetition_penalty": 1.0,
        "stop": list(ask.stop),
        "stop_token_ids": list(ask.eos_ids),
        "ignore_eos": True,
        "logprobs": 0 if ask.read_token is None else 1,  # as many as `logprob_token_ids`
        "prompt_logprobs": 0 if ask.read_prompt else None,
        "logprob_token_ids": None if ask.read_token is None else [ask.read_token],
    }


def row_seed(completion_id: bytes, seed: int) -> int:
    """The seed of a draw, below 2**63: a function of its id and the recipe's seed."""
    digest = blake2b(completion_id, digest_size=8, salt=seed.to_bytes(8, "little")).digest()
    return int.from_bytes(digest, "little") >> 1


def reading(id: str, prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> Ask:
    """The ask whose answer holds the log-probs of a finished completion at T = 1; `read_logprobs` takes them out."""
    *before, last = completion_ids
    return Ask(id, [*prompt_ids, *before], seed=0, read_prompt=bool(before), read_token=last)


def read_logprobs(answer: Answer, completion_tokens: int) -> list[float]:
    """The log-probs of the completion that an answer to a `reading` holds."""
    assert answer.read_logprob is not None
    before = completion_tokens - 1
    return [*answer.prompt_logprobs[len(answer.prompt_logprobs) - before :], answer.read_logprob]


def answered(engine: Engine, asks: Sequence[Ask]) -> Mapping[str, Answer | AskFailure]:
    """What came of some asks, all of them awaited."""
    for ask in asks:
        engine.submit(ask)
    answers: dict[str, Answer | AskFailure] = {}
    while finished := engine.finished():
        answers.update(finished)
    return answers
