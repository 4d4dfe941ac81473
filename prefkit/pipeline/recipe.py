"""The recipe: one YAML file that says how a dataset is made from facts, and what trains on it.

Every block is validated whole before anything runs, also blocks of stages that this release cannot run yet. What of a
recipe decides the content of a version is worked out in `resolve.py`.
"""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from prefkit.config import Config
from prefkit.hygiene.config import HygieneConfig
from prefkit.sampling.config import WHOLE, PolicyConfig, PromptShare, SampleConfig
from prefkit.scoring.config import PairwiseJudgeScorer, ScoreConfig
from prefkit.selection.config import (
    AggregateConfig,
    GradedComparisons,
    MeanAggregate,
    PairBase,
    SelectConfig,
    VetoAggregate,
    WeightsAggregate,
)
from prefkit.sources.hub import hub_name

POLICY = "policy"
"""As a reference: the recipe's own policy."""
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
    prompt_share: PromptShare = WHOLE
    """Only of this share of the prompts, as in a `sample` block."""


Kind: TypeAlias = Literal["pairs", "subset"]
"""Whether a row of a version is a pair or a single completion."""
Side: TypeAlias = Literal["chosen", "rejected", "completion"]


class CheckConfig(Config):
    """Shift: do the rows fit the model they will train? The last stage of a build, with a gate.

    The yardstick is what the reference itself writes on the same prompts. Rows of which the trainer's longest length
    leaves no token of a completion are dropped (`no_tokens_left`): nothing can be learnt from them.
    """

    reference: str
    """`policy` (the recipe's), a folder or a Hub id."""
    revision: str | None = None
    """A Hub revision of the reference; that of `policy` is given there."""
    max_off_support: float | None = Field(default=None, ge=0, le=1)
    """Largest share of a side's rows outside the reference's own 99 % range."""
    max_nll_gap: float | None = Field(default=None, ge=0)
    """Largest negative log-likelihood per token of a side above the reference's own samples, in nats."""
    drop: tuple[Side, ...] = ()
    """Drop rows of which this side is off-support (`chosen_off_support`, ...); the gate is about the rows kept."""
    store_ref_logps: bool = False
    """Put the reference's log-probs into the version: `ref_chosen_logps`, `ref_rejected_logps` or `ref_logps`."""
    samples: int = Field(default=4, ge=1)
    """The reference's own completions per prompt of the version."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """Longest of them; by default as in the first `sample` block, or 512."""
    max_length: int = Field(default=1024, ge=1)
    """Prompt and completion as the trainer will cut them, in tokens."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Another seed gives other samples, which are never those of a `sample` block."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of the reference's weights."""
    backend: Literal["transformers", "vllm"] = "transformers"
    """What runs the reference, in this process."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`; with vLLM only `auto`."""

    @model_validator(mode="after")
    def _policy_has_its_own_revision(self) -> "CheckConfig":
        if self.reference == POLICY and self.revision is not None:
            raise ValueError("revision stands beside `reference: policy`, expected it in `policy.revision`: move it")
        return self


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


class MixPhase(Config):
    """Weights that hold for a part of a run."""

    weights: dict[str, float]
    """By source: its share of the rows that are trained on, divided by their sum. `live` is the recipe's own sampling,
    everything else a version: `name@v2`, a tag, or a name for its newest."""
    until: int | None = None
    """The last optimizer step of the phase; null, for the last phase only, lasts to the end."""


class TrainConfig(Config):
    """What `prefkit train` does with the data."""

    method: str
    """`dpo`, `grpo`, `ppo`, ..."""
    sync_period: float | None = Field(default=None, gt=0)
    """Optimizer steps between syncs of the policy that samples with the one that learns: 1 is online, a larger number
    semi-online, `.inf` never syncs, null trains on a version."""
    reference: Literal["fixed", "behavior", "reset"] = "fixed"
    """Which reference model the loss uses."""
    reference_reset_period: int | None = Field(default=None, ge=1)
    """Optimizer steps between resets of the reference to the policy."""
    max_staleness: int | None = Field(default=None, ge=0)
    """Rows sampled more optimizer steps ago than this are dropped; by default those sampled before the last sync."""
    mix: Annotated[tuple[MixPhase, ...], Field(default=())]
    """Train on rows of several sources, in phases; or their weights alone, for the whole run."""
    prompts: int = Field(default=64, ge=1)
    """Prompts that are sampled and labelled together."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Another seed takes prompts, or the rows of a version, in another order."""
    peft: dict[str, bool | int | float | str | list[str] | None] | None = None
    """Train an adapter: arguments of PEFT's LoraConfig, under its names."""
    args: dict[str, bool | int | float | str | list[str] | list[float] | None] = Field(default_factory=dict)
    """Arguments of the trainer, under TRL's names."""

    model_config = Config.model_config | {"allow_inf_nan": True}  # sync_period: .inf

    @model_validator(mode="before")
    @classmethod
    def _weights_alone_are_a_phase(cls, data: object) -> object:
        if isinstance(data, dict) and isinstance(data.get("mix"), dict):
            return data | {"mix": [{"weights": data["mix"]}]}
        return data


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
    def kind(self) -> Kind:
        """What a row of its versions is."""
        return "pairs" if isinstance(self.select, PairBase) else "subset"

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

    @model_validator(mode="after")
    def _check_fits(self) -> "Recipe":
        if self.check is None:
            return self
        if self.check.reference == POLICY and self.policy is None:
            raise ValueError(
                "check.reference is 'policy' and the recipe has none, expected `policy.model` at the top: set it, or "
                "name a folder or Hub id (./policy is a folder)"
            )
        sides = ("chosen", "rejected") if self.kind == "pairs" else ("completion",)
        for side in self.check.drop:
            if side not in sides:
                raise ValueError(
                    f"check.drop names {side!r}, expected {' or '.join(sides)} with select.kind {self.select.kind!r}"
                )
        return self

    def _check_policies(self) -> None:
        for index, block in enumerate(self.sample):
            if block.policy is None and self.policy is None and block.backend != "fake":
                raise ValueError(f"sample[{index}] has no policy: set `policy.model` at the top or in the block")
