"""Live micro-batches: the stages of a build over a few prompts and fact tables in memory, then the rows of a trainer.

A micro-batch is a pure function of (run seed, prompt cursor, policy version) where sampler and scorers are. It never
crosses the end of an epoch, so a prompt is in it once; in every epoch a prompt has further sample indexes.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, TypeVar

import polars as pl
import pyarrow as pa

from prefkit.errors import SyncError
from prefkit.pipeline.choosing import Choosing
from prefkit.pipeline.comparing import Judge, compare
from prefkit.pipeline.completions import DRAW_COLUMNS
from prefkit.pipeline.draws import Block, draw
from prefkit.pipeline.labels import Labeller, label, with_texts
from prefkit.pipeline.progress import Silent
from prefkit.pipeline.prompts import KEPT
from prefkit.pipeline.publish import PINNED
from prefkit.pipeline.resolve import Resolved
from prefkit.pipeline.rows import TRAIN
from prefkit.pipeline.stages import Stages
from prefkit.pipeline.training.rewards import reward_sums
from prefkit.pipeline.training.rows import TRAINABLE, ReferenceSums, trained_pairs
from prefkit.records import COMPARISONS, COMPLETIONS, SCORES
from prefkit.sampling.protocol import Sampler
from prefkit.scoring.protocol import Comparer, Scorer
from prefkit.shift.live import Tokens
from prefkit.store.facts import FactStore
from prefkit.store.memory_facts import MemoryFacts
from prefkit.stream.order import prompt_places
from prefkit.stream.protocol import MicroBatch, Weights

MADE = (COMPLETIONS, SCORES, COMPARISONS)
T = TypeVar("T")


class Synced(Protocol):
    """What can be given new weights: a sampler, a reference model."""

    def sync(self, weights: Weights, policy_version: int) -> float:
        """From now on has these weights; returns the largest difference of the probe. Raises SyncError."""
        ...


@dataclass(frozen=True, slots=True)
class Engines:
    """What computes: each in the order of the recipe's blocks."""

    samplers: Sequence[Sampler]
    """One per `sample` block."""
    learners: Mapping[int, Synced]
    """Those of them that sample from the policy in training, by block number."""
    scorers: Sequence[Scorer]
    """One per scorer whose labels are computed."""
    comparers: Sequence[Comparer]
    """One per pairwise judge."""
    tokens: Tokens
    reference: ReferenceSums
    anchor: Synced | None = None
    """The reference model in memory, where there is one."""


@dataclass
class LiveMaker:
    """Computes everything a micro-batch plans; see `Maker`. `seconds` says what took how long."""

    recipe: Resolved
    facts: FactStore
    engines: Engines
    seconds: dict[str, float] = field(default_factory=lambda: {"sample": 0.0, "label": 0.0, "reference": 0.0})

    def draw(self, block: Block, keys: pl.DataFrame, tasks: pl.DataFrame) -> pl.DataFrame:
        """See Maker."""
        requests = keys.select("prompt_id", "sample_index", "completion_id", "attempt")
        requests = requests.with_columns(messages=tasks["messages"].gather(keys["prompt"]))
        sampler = self.engines.samplers[block.number]
        self.timed("sample", lambda: draw(self.facts, sampler, block, requests, Silent()))
        return keys

    def label(
        self, labeller: Labeller, keys: pl.DataFrame, tasks: pl.DataFrame, candidates: pl.DataFrame
    ) -> pl.DataFrame:
        """See Maker."""
        if keys.height:
            scorer = self.engines.scorers[self.recipe.made.index(labeller)]
            requests = with_texts(keys, labeller, tasks, candidates)
            self.timed("label", lambda: label(self.facts, scorer, labeller, requests, Silent()))
        return keys

    def compare(self, judge: Judge, keys: pl.DataFrame, tasks: pl.DataFrame) -> pl.DataFrame:
        """See Maker."""
        if keys.height:
            comparer = self.engines.comparers[self.recipe.judges.index(judge)]
            requests = keys.with_columns(tasks.select("messages", *judge.config.reads)[keys["prompt"]])
            self.timed("label", lambda: compare(self.facts, comparer, judge, requests, Silent()))
        return keys

    def timed(self, what: str, work: Callable[[], T]) -> T:
        """Does it, and adds its time."""
        start = time.perf_counter()
        try:
            return work()
        finally:
            self.seconds[what] += time.perf_counter() - start


@dataclass
class LiveSource:
    """Samples, labels and selects as the trainer asks for rows; see `prefkit.stream.protocol.Source`."""

    recipe: Resolved
    tasks: pl.DataFrame
    """What the run trains on, in an order that stays."""
    engines: Engines
    run_id: str
    prompts: int
    """Per micro-batch, at most."""
    seed: int
    max_length: int | None
    system: str | None = None
    policy_version: int = 0
    attempt: int = 0

    def prompts_at(self, cursor: int) -> int:
        """See Source; an epoch has whole micro-batches and a rest."""
        return min(self.prompts, self.tasks.height - cursor % self.tasks.height)

    def micro_batch(self, cursor: int) -> MicroBatch:
        """See Source."""
        count = self.prompts_at(cursor)
        places, epochs = prompt_places(self.tasks.height, self.seed, cursor, count)
        tasks = self.tasks[places].with_columns(prompt=pl.int_range(count, dtype=pl.UInt32))
        recipe, facts = self._recipe(int(epochs[0])), MemoryFacts()
        maker = LiveMaker(recipe, facts, self.engines)
        stages = Stages(recipe, facts, (), {table.name: 0 for table in PINNED}, maker)
        stages.ledger.add("prompt hygiene", "task", count, pl.repeat(KEPT, count, eager=True), [KEPT])
        choosing = Choosing(recipe.recipe, facts, stages.pins, stages.ledger, stages.dropped)
        labelled = stages.labelled(tasks)
        draws = facts.read(COMPLETIONS, ["prompt_id", "completion"]).select("prompt_id", DRAW_COLUMNS[0])
        rewards = reward_sums(labelled.candidates, tasks["source"], draws)
        pairs = choosing.splits(labelled, tasks)[TRAIN]
        pairs = self._with_behavior(pairs, facts)
        rows, outcome = maker.timed("reference", partial(self._trained, pairs))
        stages.ledger.add("tokens", "pair", stages.ledger.kept("version"), outcome, [TRAINABLE])
        made = {table.name: facts.rows(table) for table in MADE if facts.heads()[table.name]}
        outcomes = {account.stage: dict(account.outcomes) for account in stages.ledger.accounts}
        return MicroBatch(cursor, count, self.policy_version, rows, made, outcomes, maker.seconds, rewards)

    def _trained(self, pairs: pl.DataFrame) -> tuple[pa.Table, pl.Series]:
        return trained_pairs(pairs, self.engines.tokens, self.engines.reference, self.max_length, self.system)

    def sync(self, weights: Weights, policy_version: int) -> None:
        """See Source."""
        for sampler in self.engines.learners.values():
            sampler.sync(weights, policy_version)
        self.policy_version = policy_version

    def reset_reference(self, weights: Weights, policy_version: int) -> None:
        """See Source."""
        if self.engines.anchor is None:
            raise SyncError("the run holds no reference model, expected one to reset: set `reference: reset`")
        self.engines.anchor.sync(weights, policy_version)

    def begin_attempt(self, attempt: int) -> None:
        """See Source."""
        self.attempt = attempt

    @property
    def policy_id(self) -> str:
        """Whose weights the policy in training has."""
        return f"{self.run_id}/{self.attempt}"

    def _recipe(self, epoch: int) -> Resolved:
        """The recipe with its blocks as they sample now."""
        blocks = [replace(block, first=epoch * block.n) for block in self.recipe.blocks]
        for number in self.engines.learners:
            blocks[number] = replace(blocks[number], policy_id=self.policy_id, policy_version=self.policy_version)
        return replace(self.recipe, blocks=tuple(blocks))

    def _with_behavior(self, pairs: pl.DataFrame, facts: MemoryFacts) -> pl.DataFrame:
        """The pairs with the log-probs of their sampler per token, and one `policy_version`: that of the older side."""
        logprobs = facts.read(COMPLETIONS, ["id", "behavior_logprobs"])
        logprobs = logprobs.with_columns(pl.col("behavior_logprobs").cast(pl.List(pl.Float64)))
        versions: list[pl.Expr] = []
        for side in ("chosen", "rejected"):
            own = logprobs.rename({"id": f"{side}_id", "behavior_logprobs": f"{side}_behavior_logprobs"})
            pairs = pairs.join(own, on=f"{side}_id", how="left", maintain_order="left")
            versions.append(
                pl.when(pl.col(f"{side}_policy_id") == self.policy_id).then(pl.col(f"{side}_policy_version"))
            )
        return pairs.with_columns(policy_version=pl.min_horizontal(versions))
