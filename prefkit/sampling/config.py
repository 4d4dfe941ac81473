"""The `sample` block of a recipe and the `policy` it draws from.

Together with the policy's id, the identity fields below are the key of a completion. `n` is not among them: going from
8 to 12 adds four. Neither is the backend or the batch size: they say where and how fast, not what.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from prefkit.config import Config
from prefkit.identity import config_id
from prefkit.spending import Price

WHOLE = (0.0, 1.0)
"""All prompts."""


def _ascending(share: tuple[float, float]) -> tuple[float, float]:
    low, high = share
    if not 0 <= low < high <= 1:
        raise ValueError(f"got [{low:g}, {high:g}], expected two ascending numbers from 0 to 1, as in [0, 0.5]")
    return share


PromptShare = Annotated[tuple[float, float], AfterValidator(_ascending)]
"""From where to where, upper end left out, on a scale from 0 to 1 on which every prompt has its place for good."""


class PolicyConfig(Config):
    """The model that samples."""

    model: str
    """A folder with weights, config, tokenizer and chat template, or a Hub id."""
    revision: str | None = None
    """A Hub revision; for an endpoint, what you call this deployment of the model."""
    trust_remote_code: bool = False
    """Run Python code that ships with the model. Off unless you say so."""


class SamplerConfig(Config):
    """What every sampling backend understands."""

    identity: ClassVar[tuple[str, ...]] = (
        "temperature", "top_p", "top_k", "max_new_tokens", "seed", "system", "stop", "dtype",
    )  # fmt: skip

    policy: PolicyConfig | None = None
    """The model to sample from, when it is not the recipe's `policy`."""
    n: int = Field(default=8, ge=1)
    """Completions per prompt. Raising it keeps the ones you have."""
    temperature: float = Field(default=1.0, ge=0.0)
    """0 takes the most likely token."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """Sample from the smallest set of tokens whose probability reaches this."""
    top_k: int | None = Field(default=None, ge=1)
    """Sample from the k most likely tokens."""
    max_new_tokens: int = Field(default=512, ge=1)
    """Longest completion, in tokens."""
    seed: int = Field(default=0, ge=0, lt=2**64)
    """Another seed gives another draw for every prompt and index."""
    system: str | None = None
    """A system message put before every prompt."""
    stop: tuple[str, ...] = ()
    """Strings that end a completion; they are not part of it."""
    prompt_share: PromptShare = WHOLE
    """Draw only for this share of the prompts: `[0, 0.5]` is one half, `[0.5, 1]` the other. Always the same ones."""
    batch_size: int = Field(default=64, ge=1)
    """Draws per forward pass and per durable commit."""

    @property
    def sampler_id(self) -> int:
        """The id of everything here that changes what a draw means."""
        return config_id("sampler", self.identity_values())


class TransformersSampler(SamplerConfig):
    """Sampling with transformers in this process: the embedded default."""

    backend: Literal["transformers"]
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of the weights. In float32 a draw does not depend on its batch mates."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""


class FakeSampler(SamplerConfig):
    """A sampler without a model, for tests and dry runs: seeded nonsense of words and numbers."""

    backend: Literal["fake"]
    dtype: Literal["float32"] = "float32"


class VllmSampler(SamplerConfig):
    """Sampling with vLLM in this process."""

    backend: Literal["vllm"]
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Number format of the weights."""
    context: int | None = Field(default=None, ge=1)
    """Most tokens of a prompt and its completion together; as many as the model can read by default."""
    gpu_memory: float = Field(default=0.9, gt=0.0, le=1.0)
    """Share of the GPU's memory that vLLM takes."""
    gpus: int = Field(default=1, ge=1)
    """GPUs that the model is spread over."""
    weights_folder: str | None = None
    """Folder that vLLM sees too, through which the weights of a training travel; memory (`/dev/shm`) by default."""


class VllmServerSampler(SamplerConfig):
    """Sampling from a vLLM server that serves the policy. `batch_size` draws are under way at a time."""

    backend: Literal["vllm_server"]
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Number format of the weights, as the server was started with."""
    endpoint: str
    """Base URL, ending in `/v1`."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key. Never the key itself."""
    timeout_s: float = Field(default=600.0, gt=0.0)
    """Seconds that one draw may take."""
    weights_folder: str | None = None
    """Folder that vLLM sees too, through which the weights of a training travel; memory (`/dev/shm`) by default."""


class EndpointSampler(SamplerConfig):
    """Sampling from an OpenAI-compatible endpoint: text only. `policy` names its model, and your `revision` of it.

    Rows carry no token ids and no log-probs, so they are nobody's on-policy data. `batch_size` calls are under way at a
    time.
    """

    backend: Literal["endpoint"]
    dtype: Literal["unknown"] = "unknown"
    endpoint: str
    """Base URL, ending in `/v1`."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key. Never the key itself."""
    timeout_s: float = Field(default=300.0, gt=0.0)
    """Seconds that one attempt of a call may take."""
    price: Price | None = None
    """What tokens cost. The recipe's `budget` counts draws as well as judgments."""


SampleConfig = Annotated[
    TransformersSampler | FakeSampler | VllmSampler | VllmServerSampler | EndpointSampler,
    Field(discriminator="backend"),
]
