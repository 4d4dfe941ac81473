"""The recipe: one YAML file that says how a dataset is made from facts, and what trains on it.

Every block is validated whole before anything runs, also blocks of stages that this release cannot run yet. What of a
recipe decides the content of a version is worked out in `resolve.py`.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from prefkit.config import Config
from prefkit.hygiene.config import HygieneConfig
from prefkit.sampling.config import PolicyConfig, SampleConfig
from prefkit.scoring.config import PairwiseJudgeScorer, ScoreConfig
from prefkit.selection.config import (
    AggregateConfig,
    GradedComparisons,
    MeanAggregate,
    SelectConfig,
    VetoAggregate,
    WeightsAggregate,
)
from prefkit.sources.hub import hub_name

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class PromptsConfig(Config):
    """Where the prompts come from: a file, the Hub, or an earlier import. Exactly one of the three."""

    path: str | None = None
    """A JSONL, Parquet or CSV file (also `.gz`), relative to the recipe."""
    hub: str | None = None
    """A Hub dataset: `org/name`, `org/name:split` or `org/name:subset/split`, each also with `@revision`."""
    imported: str | None = None
    """The name of a source brought in by `prefkit import`."""
    map: dict[Literal["prompt", "answer", "split", "metadata"], str] = Field(default_factory=dict)
    """Our column to yours, where the names differ."""
    limit: int | None = Field(default=None, ge=1)
    """Use only this many prompts (the same ones every time)."""

    @model_validator(mode="after")
    def _one_origin(self) -> "PromptsConfig":
        given = [k for k in ("path", "hub", "imported") if getattr(self, k) is not None]
        if len(given) != 1:
            raise ValueError(f"got {' and '.join(given) or 'none'} of path, hub and imported, expected exactly one")
        if self.hub and hub_name(self.hub) is None:
            raise ValueError(f"hub got {self.hub!r}, expected org/name, org/name:split or org/name:subset/split")
        return self


class CompletionsConfig(Config):
    """Imported completions of the prompts: those of the prompts' source, and of imports that refer to it."""

    models: tuple[str, ...] = ("*",)
    """Only of these models; `*` stands for any characters."""
    exclude: tuple[str, ...] = ()
    """Not of these models."""


class CheckConfig(Config):
    """The gate on distribution shift against a reference model."""

    reference: str
    """`policy`, a folder or a Hub id."""
    max_off_support: float | None = Field(default=None, ge=0, le=1)
    """Largest share of rows outside the reference's own range."""
    max_nll_gap: float | None = Field(default=None, ge=0)
    """Largest gap of the negative log-likelihood per token to the reference's own samples, in nats."""
    store_ref_logps: bool = False
    """Put the reference's log-probs into the version."""


class SplitConfig(Config):
    """Which share of the prompts is held out."""

    test: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of prompts in the test split; all rows of a prompt go to one side."""
    seed: int = Field(default=0, ge=0, lt=2**64 - 1)
    """Another seed holds out other prompts."""


class BudgetConfig(Config):
    """Hard limits on what a build may spend."""

    usd: float | None = Field(default=None, gt=0)
    """US dollars."""
    tokens: int | None = Field(default=None, gt=0)
    """Tokens, input and output."""


class TrainConfig(Config):
    """What `prefkit train` does with the data."""

    method: str
    """`dpo`, `grpo`, `ppo`, ..."""
    sync_period: float | None = Field(default=None, gt=0)
    """Optimizer steps between synchronisations of the sampling policy: 1 is online, `.inf` never, null a version."""
    reference: Literal["fixed", "behavior", "reset"] = "fixed"
    """Which reference model the loss uses."""
    reference_reset_period: int | None = Field(default=None, ge=1)
    """Optimizer steps between resets of the reference to the policy."""
    max_staleness: int | None = Field(default=None, ge=0)
    """Rows sampled more optimizer steps ago than this are dropped."""
    args: dict[str, bool | int | float | str | list[str] | list[float] | None] = Field(default_factory=dict)
    """Arguments of the trainer, under TRL's names."""

    model_config = Config.model_config | {"allow_inf_nan": True}  # sync_period: .inf


class Recipe(Config):
    """A recipe, whole. Unknown keys are errors."""

    name: str = Field(pattern=NAME)
    """Name of the dataset; its versions are `name@v1`, `name@v2`, ..."""
    prompts: PromptsConfig
    policy: PolicyConfig | None = None
    """The model that samples, and will be trained."""
    sample: Annotated[tuple[SampleConfig, ...], Field(default=())]
    """One block, or a list of blocks to sample from several policies."""
    completions: CompletionsConfig | None = None
    """Imported completions. Without a `sample` block, all there are."""
    score: tuple[ScoreConfig, ...] = Field(min_length=1)
    """The scorers, in any order."""
    aggregate: AggregateConfig = MeanAggregate(kind="mean")
    """How aspects become one score."""
    select: SelectConfig
    """Which pairs, or which completions, become the dataset."""
    hygiene: HygieneConfig = HygieneConfig()
    check: CheckConfig | None = None
    split: SplitConfig = SplitConfig()
    budget: BudgetConfig | None = None
    train: TrainConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_sample_block_is_a_list_of_one(cls, data: object) -> object:
        if isinstance(data, dict) and isinstance(data.get("sample"), dict):
            return data | {"sample": [data["sample"]]}
        return data

    @property
    def imported(self) -> CompletionsConfig | None:
        """Which imported completions are candidates, or None for none."""
        return self.completions or (None if self.sample else CompletionsConfig())

    @property
    def compares(self) -> bool:
        """Whether pairs are those that were compared, not made from scores."""
        return isinstance(self.select, GradedComparisons)

    @model_validator(mode="after")
    def _blocks_agree(self) -> "Recipe":
        self._check_policies()
        aspects = [a for scorer in self.score for a in scorer.aspects]
        twice = sorted({a for a in aspects if aspects.count(a) > 1})
        if twice:
            raise ValueError(f"score gives {twice[0]!r} twice, expected unique names: set `aspect` on one of them")
        named: set[str] = set()
        if isinstance(self.aggregate, WeightsAggregate):
            named = set(self.aggregate.weights)
            if sum(self.aggregate.weights.values()) == 0:
                raise ValueError("aggregate.weights add up to 0, expected another sum: they are divided by it")
        elif isinstance(self.aggregate, VetoAggregate):
            named = set(self.aggregate.veto)
        unknown = sorted(named - set(aspects))
        if unknown and not isinstance(self.select, GradedComparisons):
            raise ValueError(
                f"aggregate names {unknown[0]!r}, expected one of the scored aspects: {', '.join(sorted(aspects))}"
            )
        return self

    @model_validator(mode="after")
    def _pairwise_judges_compare(self) -> "Recipe":
        if not self.compares and any(isinstance(scorer, PairwiseJudgeScorer) for scorer in self.score):
            raise ValueError(
                f"score has a pairwise judge and select.kind is {self.select.kind!r}, expected 'comparisons': "
                "change one of them"
            )
        return self

    def _check_policies(self) -> None:
        for index, block in enumerate(self.sample):
            if block.policy is None and self.policy is None and block.backend != "fake":
                raise ValueError(f"sample[{index}] has no policy: set `policy.model` at the top or in the block")
