"""The `score` list of a recipe: which scorers label the completions, and what of each is identity."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from prefkit.config import Config
from prefkit.identity import Json
from prefkit.scoring.judge.rubric import is_file, shipped_rubric
from prefkit.scoring.protocol import ScoreFailureKind
from prefkit.spending import Price


class ScorerConfig(Config):
    """What every scorer has, besides `aspects`: what it judges, one score each, under names unique within a recipe."""

    repeats: int = Field(default=1, ge=1)
    """How many times each completion is judged; scores of one aspect are averaged over repeats."""
    batch_size: int = Field(default=256, ge=1)
    """Calls per durable commit."""

    @property
    def reads(self) -> frozenset[str]:
        """The task columns read besides prompt and completion."""
        return frozenset()

    @property
    def asked(self) -> dict[str, Json]:
        """How many labels are asked for, besides the aspects: content of a version, but no identity of a label."""
        return {"repeats": self.repeats}


class VerifierConfig(ScorerConfig):
    """A rule that checks a completion."""

    kind: Literal["verifier"]

    @property
    def aspects(self) -> tuple[str, ...]:
        return (self.aspect or self.name,)

    name: str
    aspect: str | None = None
    """Name of the score; the verifier's own name by default."""


class MathVerifier(VerifierConfig):
    """1 when the final answer equals the gold answer mathematically, 0 when it does not, undecided otherwise."""

    identity: ClassVar[tuple[str, ...]] = ("kind", "name", "cpu_seconds", "memory_mb")

    name: Literal["math"]
    cpu_seconds: float = Field(default=5.0, gt=0)
    """CPU time one answer may take. CPU time, not wall time: a label never depends on how busy the machine is."""
    memory_mb: int = Field(default=2048, ge=1024)
    """Memory one worker process may take."""
    workers: int | None = Field(default=None, ge=1)
    """Worker processes; the machine's cores by default."""

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"answer"})


class ExactVerifier(VerifierConfig):
    """1 when the completion equals the gold answer after the given normalisation, else 0."""

    identity: ClassVar[tuple[str, ...]] = ("kind", "name", "ignore_case", "ignore_space")

    name: Literal["exact"]
    ignore_case: bool = False
    """Compare case-folded."""
    ignore_space: bool = True
    """Strip the ends and compare every run of white space as one space."""

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"answer"})


class RegexVerifier(VerifierConfig):
    """1 when the pattern is found in the completion, else 0."""

    identity: ClassVar[tuple[str, ...]] = ("kind", "name", "pattern")

    name: Literal["regex"]
    pattern: str
    """A regular expression (Rust syntax: linear time, no look-around)."""


class LengthVerifier(VerifierConfig):
    """1 when the completion's length lies within the bounds, else 0."""

    identity: ClassVar[tuple[str, ...]] = ("kind", "name", "unit", "min", "max")

    name: Literal["length"]
    unit: Literal["characters", "words"] = "characters"
    """What is counted."""
    min: int = Field(default=0, ge=0)
    """Smallest length that scores 1."""
    max: int | None = Field(default=None, ge=0)
    """Largest length that scores 1."""

    @model_validator(mode="after")
    def _bounds_leave_something(self) -> "LengthVerifier":
        if self.max is not None and self.max < self.min:
            raise ValueError(f"length got min {self.min} and max {self.max}, expected min <= max")
        return self


class PythonScorer(ScorerConfig):
    """A function of yours, by import path."""

    identity: ClassVar[tuple[str, ...]] = ("kind", "path", "aspect", "revision", "arguments")

    kind: Literal["python"]
    path: str = Field(pattern=r"^[\w.]+:[\w.]+$")
    """`package.module:function`, in the recipe's folder or installed; called as `function(prompt, completion, **inputs,
    **arguments)` and returns a number, or None for undecided."""
    aspect: str
    """Name of the score."""
    revision: str | None = None
    """Your name for this behaviour of the function: change it and its scores are computed anew. Without one, any change
    of the source file does that; state one when the behaviour depends on other files."""
    read: tuple[Literal["answer", "source", "split", "metadata"], ...] = ()
    """Task columns handed to the function by name."""
    arguments: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Further keyword arguments."""

    @property
    def aspects(self) -> tuple[str, ...]:
        return (self.aspect,)

    @property
    def reads(self) -> frozenset[str]:
        return frozenset(self.read)


class FakeScorer(ScorerConfig):
    """Made-up scores, for tests and dry runs."""

    identity: ClassVar[tuple[str, ...]] = ("kind", "aspect", "seed")

    kind: Literal["fake"]
    aspect: str = "fake"
    """Name of the score."""
    seed: int = Field(default=0, ge=0)
    """Another seed makes up other scores."""
    failures: dict[ScoreFailureKind, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    """Share of the calls that fail, by kind."""

    @property
    def aspects(self) -> tuple[str, ...]:
        return (self.aspect,)


class ImportedScorer(ScorerConfig):
    """Scores or comparisons that were imported.

    With `select.kind: comparisons` the scorer's comparisons decide. Else its scores count or, `against` one model, its
    comparisons with that model. Several ratings of one completion, or of one pair, are averaged.
    """

    identity: ClassVar[tuple[str, ...]] = ("kind", "scorer", "aspect", "against")

    kind: Literal["imported"]
    scorer: str
    """The annotator or judge, as named at import; `*` stands for any characters and pools all that fit."""
    aspect: str = "overall"
    """What was judged, as named at import."""
    name: str | None = None
    """Name of the score; by default the aspect's or, where that is `overall`, the scorer's. A pattern needs one."""
    against: str | None = None
    """The model they compared with: the mean preference over its completions is the score."""

    @property
    def aspects(self) -> tuple[str, ...]:
        return (self.name or (self.scorer if self.aspect == "overall" else self.aspect),)

    @model_validator(mode="after")
    def _repeats_are_as_imported(self) -> "ImportedScorer":
        if self.repeats != 1:
            raise ValueError(f"repeats got {self.repeats}, expected 1: ratings are as many as were imported")
        return self

    @model_validator(mode="after")
    def _pattern_has_a_name(self) -> "ImportedScorer":
        if self.name is None and self.aspect == "overall" and set(self.scorer) & set("*?["):
            raise ValueError(f"scorer {self.scorer!r} is a pattern and has no `name`: give its score one")
        return self


class RewardModelBase(ScorerConfig):
    """A sequence classifier with one output: its raw logit for prompt and completion in its chat template."""

    identity: ClassVar[tuple[str, ...]] = ("kind", "dtype")

    model: str
    """A folder or a Hub id."""
    revision: str | None = None
    """A Hub revision."""
    aspect: str = "reward_model"
    """Name of the score."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of the weights. In float32 a score is the same to 1e-5 whatever it is batched with."""
    trust_remote_code: bool = False
    """Run Python code that ships with the model. Off unless you say so."""

    @property
    def aspects(self) -> tuple[str, ...]:
        return (self.aspect,)


class RewardModelScorer(RewardModelBase):
    """A reward model in this process, with transformers: the raw logit of a sequence classifier with one output."""

    kind: Literal["reward_model"]
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    batch_tokens: int = Field(default=16_384, ge=1)
    """Tokens per forward pass, padding included; a longer text is read alone."""


class VllmRewardModelScorer(RewardModelBase):
    """A reward model in this process, with vLLM: the raw logit of a sequence classifier with one output."""

    kind: Literal["vllm_reward_model"]
    gpu_memory: float = Field(default=0.9, gt=0.0, le=1.0)
    """Share of the GPU's memory that vLLM takes."""


class JudgeScorer(ScorerConfig):
    """A language model behind an OpenAI-compatible endpoint, judging by a rubric."""

    identity: ClassVar[tuple[str, ...]] = ("kind", "mode", "model", "revision", "read", "temperature", "seed")

    kind: Literal["judge"]
    endpoint: str
    """Base URL, ending in `/v1`."""
    model: str
    """Model name as the endpoint knows it."""
    revision: str
    """Your name for this deployment of the model."""
    rubric: str = "ultrafeedback"
    """A shipped rubric (ultrafeedback, harmlessness, verbosity, overall) or the path of a `.yaml` file of yours."""
    aspects: tuple[str, ...] = Field(default=(), min_length=1)
    """Which aspects of the rubric are judged: by default all of a shipped one. Those of a file must be listed."""
    read: tuple[Literal["answer"], ...] = ()
    """`[answer]` shows the judge the task's answer as a reference, where there is one."""
    temperature: float = Field(default=0.0, ge=0)
    """Of the judge's replies."""
    seed: int = Field(default=0, ge=0)
    """Of the judge's replies; every repeat has another seed of its own."""
    max_tokens: int = Field(default=1024, ge=1)
    """Longest reply. One that reaches it is cut off and gives no score."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key. Never the key itself."""
    price: Price | None = None
    """What tokens cost."""
    concurrency: int = Field(default=32, ge=1)
    """Calls in flight at once."""
    timeout_s: float = Field(default=300.0, gt=0)
    """Seconds one attempt may take."""
    transport: Literal["live", "batch"] = "live"
    """How calls travel: each by itself, or through the provider's Batch API, which is cheaper and answers within a day.
    A batch that was submitted is found again by the next build, should this one be stopped."""
    poll_s: float = Field(default=60.0, gt=0)
    """Seconds between two looks at a batch."""

    @property
    def reads(self) -> frozenset[str]:
        return frozenset(self.read)

    @model_validator(mode="before")
    @classmethod
    def _aspects_are_those_of_the_rubric(cls, data: object) -> object:
        """Fills in the aspects of a shipped rubric, so that a recipe names them all before any file is read."""
        if not isinstance(data, dict):
            return data
        rubric, aspects = data.get("rubric", cls.model_fields["rubric"].default), data.get("aspects")
        if not isinstance(rubric, str):
            return data
        if is_file(rubric):
            if aspects is None:
                raise ValueError(f"rubric is the file {rubric!r} and `aspects` is missing: list those to be judged")
            return data
        shipped = shipped_rubric(rubric)
        if isinstance(aspects, list | tuple):
            shipped.chosen([name for name in aspects if isinstance(name, str)], rubric)
        return data if aspects is not None else data | {"aspects": shipped.names}


class AspectJudgeScorer(JudgeScorer):
    """One score for each aspect."""

    mode: Literal["aspects"]
    calls: Literal["per_aspect", "together"] = "per_aspect"
    """One call for each aspect, or one for all: cheaper, but then the scores depend on which aspects are asked for."""


class PairwiseJudgeScorer(JudgeScorer):
    """One preference for each pair of completions and aspect."""

    mode: Literal["pairwise"]
    rubric: str = "overall"
    """A shipped rubric (ultrafeedback, harmlessness, verbosity, overall) or the path of a `.yaml` file of yours."""
    orders: Literal["both", "ab"] = "both"
    """Each pair in both orders, or in one: the smaller id first, which is as good as chance since ids are hashes."""
    against: Annotated[int, Field(strict=True, ge=0)] | str | None = None
    """Only compare with these completions: those of a `sample` block, by its number from 0, or those of an imported
    model, by its name. Each other completion of a prompt is compared with each of them, and null compares all pairs."""

    @property
    def asked(self) -> dict[str, Json]:
        return super().asked | {"orders": self.orders, "against": self.against}

    @property
    def planned_orders(self) -> tuple[str, ...]:
        """The orders in which each pair is shown."""
        return ("ab", "ba") if self.orders == "both" else ("ab",)

    @property
    def calls_per_pair(self) -> int:
        """How many calls compare one pair of completions."""
        return len(self.planned_orders) * len(self.aspects) * self.repeats


Verifier = Annotated[MathVerifier | ExactVerifier | RegexVerifier | LengthVerifier, Field(discriminator="name")]
Judge = Annotated[AspectJudgeScorer | PairwiseJudgeScorer, Field(discriminator="mode")]
ScoreConfig = Annotated[
    Verifier | PythonScorer | FakeScorer | ImportedScorer | RewardModelScorer | VllmRewardModelScorer | Judge,
    Field(discriminator="kind"),
]
