"""The `score` list of a recipe: which scorers label the completions, and what of each is identity."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from prefkit.config import Config
from prefkit.scoring.protocol import ScoreFailureKind


class ScorerConfig(Config):
    """What every scorer has."""

    repeats: int = Field(default=1, ge=1)
    """How many times each completion is judged; scores of one aspect are averaged over repeats."""
    batch_size: int = Field(default=256, ge=1)
    """Calls per durable commit."""

    @property
    def aspects(self) -> tuple[str, ...]:
        """What is judged, one score each. Names must be unique within a recipe."""
        raise NotImplementedError(f"{type(self).__name__} does not name its aspects")

    @property
    def reads(self) -> frozenset[str]:
        """The task columns read besides prompt and completion."""
        return frozenset()


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
    """Scores and comparisons that were imported."""

    identity: ClassVar[tuple[str, ...]] = ("kind", "scorer", "aspect")

    kind: Literal["imported"]
    scorer: str
    """The annotator or judge, as named at import."""
    aspect: str | None = None
    """Name of the score; the scorer's name by default."""

    @property
    def aspects(self) -> tuple[str, ...]:
        return (self.aspect or self.scorer,)


class RewardModelScorer(ScorerConfig):
    """A sequence classifier with one output."""

    identity: ClassVar[tuple[str, ...]] = ("kind", "model", "revision", "aspect", "dtype")

    kind: Literal["reward_model"]
    model: str
    """A folder or a Hub id."""
    revision: str | None = None
    """A Hub revision."""
    aspect: str = "reward_model"
    """Name of the score."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of the weights."""

    @property
    def aspects(self) -> tuple[str, ...]:
        return (self.aspect,)


class Price(Config):
    """Money per million tokens, in US dollars."""

    input: float = Field(ge=0)
    """Per million input tokens."""
    output: float = Field(ge=0)
    """Per million output tokens."""


class JudgeScorer(ScorerConfig):
    """A language model behind an OpenAI-compatible endpoint, judging by a rubric."""

    identity: ClassVar[tuple[str, ...]] = (
        "kind",
        "mode",
        "model",
        "revision",
        "rubric",
        "orders",
        "temperature",
        "seed",
    )

    kind: Literal["judge"]
    mode: Literal["aspects", "pairwise"]
    """One score per aspect, or one preference per pair."""
    endpoint: str
    """Base URL, ending in `/v1`."""
    model: str
    """Model name as the endpoint knows it."""
    revision: str
    """Your name for this deployment of the model."""
    rubric: str = "ultrafeedback"
    """A shipped rubric's name or a path to yours."""
    orders: Literal["both", "ab", "random"] = "both"
    """In which orders a pair is shown."""
    temperature: float = Field(default=0.0, ge=0)
    """Of the judge's replies."""
    seed: int = Field(default=0, ge=0)
    """Of the judge's replies and of random orders."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key. Never the key itself."""
    price: Price | None = None
    """What tokens cost."""

    @property
    def aspects(self) -> tuple[str, ...]:
        return (self.rubric,)


Verifier = Annotated[MathVerifier | ExactVerifier | RegexVerifier | LengthVerifier, Field(discriminator="name")]
ScoreConfig = Annotated[
    Verifier | PythonScorer | FakeScorer | ImportedScorer | RewardModelScorer | JudgeScorer, Field(discriminator="kind")
]
