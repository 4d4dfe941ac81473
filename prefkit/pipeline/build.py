"""`build`: from a recipe to a version, computing only what is missing.

A build that finds the recipe's fingerprint, its import and the heads of all fact tables as the newest version has them
returns that version at once. Otherwise all stages run over the facts, and the rows are published when they differ from
the newest version's: same recipe and same facts give the same bytes, so nothing new is written twice.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pyarrow as pa

from prefkit.errors import DamageError
from prefkit.identity import Json, canonical_json
from prefkit.pipeline.comparing import Judge, compare
from prefkit.pipeline.draws import Block, draw, to_do
from prefkit.pipeline.importing import import_prompts
from prefkit.pipeline.imports import Import, feeding
from prefkit.pipeline.labels import Labeller, label, with_texts
from prefkit.pipeline.progress import Progress, Silent
from prefkit.pipeline.publish import PINNED, content_of, provenance_of, write_files
from prefkit.pipeline.recipe import Recipe
from prefkit.pipeline.resolve import Resolved, placed_policy, prompts_file, resolved
from prefkit.pipeline.stages import Stages
from prefkit.records import CONFIGS
from prefkit.row_keys import config_row_id
from prefkit.sampling.registry import open_sampler
from prefkit.scoring.config import JudgeScorer
from prefkit.scoring.judge.budget import Amount, Budget
from prefkit.scoring.judge.opening import transport_of
from prefkit.scoring.registry import open_comparer, open_scorer, scorer_identity
from prefkit.store.facts import FactStore
from prefkit.store.files import remove_tree
from prefkit.store.manifest import content_hash
from prefkit.store.versions import Version
from prefkit.store.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Built:
    """What a build did."""

    version: Version
    new: bool
    """False when the newest version was this one already."""
    drawn: int = 0
    labelled: int = 0
    compared: int = 0
    spent: Amount = field(default_factory=Amount)
    """What the judges of this build were billed."""


@dataclass
class LocalMaker:
    """Computes missing facts in this process."""

    recipe: Resolved
    facts: FactStore
    cache: Path
    progress: Progress
    retry: Collection[str]
    budget: Budget
    drawn: int = 0
    labelled: int = 0
    compared: int = 0

    def draw(self, block: Block, keys: pl.DataFrame, tasks: pl.DataFrame) -> pl.DataFrame:
        """See Maker."""
        missing = to_do(keys, self.retry)
        self.progress.stage("sample", keys.height, missing.height)
        if missing.is_empty():
            return missing
        config = self.recipe.recipe.sample[block.number]
        config = config.model_copy(update={"policy": placed_policy(config.policy, self.recipe.folder)})
        policy = placed_policy(self.recipe.recipe.policy, self.recipe.folder)
        sampler = open_sampler(config, policy, self.cache)
        if sampler.policy_id != block.policy_id:
            raise DamageError(f"the weights of {block.policy_id} changed while the build was starting: run it again")
        requests = missing.select("prompt_id", "sample_index", "completion_id", "attempt")
        requests = requests.with_columns(messages=tasks["messages"].gather(missing["prompt"]))
        draw(self.facts, sampler, block, requests, self.progress)
        self.drawn += missing.height
        return missing

    def label(
        self, labeller: Labeller, keys: pl.DataFrame, tasks: pl.DataFrame, candidates: pl.DataFrame
    ) -> pl.DataFrame:
        """See Maker."""
        missing = to_do(keys, self.retry)
        self.progress.stage("score", keys.height, missing.height)
        if missing.is_empty():
            return missing
        config = self.recipe.recipe.score[self.recipe.labellers.index(labeller)]
        scorer = open_scorer(config, self.recipe.folder, labeller.scorer_id, self.budget, self.cache)
        requests = with_texts(missing, labeller, tasks, candidates)
        label(self.facts, scorer, labeller, requests, self.progress)
        self.labelled += missing.height
        return missing

    def compare(self, judge: Judge, keys: pl.DataFrame, tasks: pl.DataFrame) -> pl.DataFrame:
        """See Maker."""
        missing = to_do(keys, self.retry)
        self.progress.stage("compare", keys.height, missing.height)
        if missing.is_empty():
            return missing
        comparer = open_comparer(judge.config, self.recipe.folder, judge.scorer_id, self.budget)
        requests = missing.with_columns(tasks.select("messages", *judge.config.reads)[missing["prompt"]])
        compare(self.facts, comparer, judge, requests, self.progress)
        self.compared += missing.height
        return missing


def build(
    recipe: Recipe,
    workspace: Workspace,
    folder: Path,
    progress: Progress | None = None,
    retry: Collection[str] = (),
    parents: Sequence[str] = (),
) -> Built:
    """Builds the recipe's dataset and returns its version. `folder` is what relative paths in the recipe start from.

    `retry` names final failure kinds to try again, `parents` the versions that the new one goes back to. Whatever was
    computed before an error or a crash is kept.
    """
    with workspace.building(recipe.name):
        target = resolved(recipe, folder, workspace.policy_cache)
        imports = _imports(target, workspace.facts)
        newest = workspace.versions.newest(recipe.name)
        if newest and not retry and _is_current(newest, target, imports, workspace.facts.heads()):
            return Built(newest, new=False)
        budget = Budget(recipe.budget.usd, recipe.budget.tokens) if recipe.budget else Budget()
        for config in recipe.score:
            if isinstance(config, JudgeScorer):
                transport_of(config, budget)  # a missing key or price is told before anything is sampled
        _record_configs(target, workspace.facts, workspace.policy_cache)
        maker = LocalMaker(target, workspace.facts, workspace.policy_cache, progress or Silent(), retry, budget)
        stages = Stages(target, workspace.facts, imports, _pins(workspace.facts.heads()), maker, parents=tuple(parents))
        version = _published(stages, stages.run(), workspace, newest)
        return Built(version, version != newest, maker.drawn, maker.labelled, maker.compared, budget.spent)


def _imports(target: Resolved, facts: FactStore) -> tuple[Import, ...]:
    prompts = target.recipe.prompts
    if not prompts.imported:
        mapping = {str(ours): theirs for ours, theirs in prompts.map.items()}
        import_prompts(facts, prompts_file(target.recipe, target.folder), mapping, target.source)
    return feeding(facts, target.source)


def _pins(heads: Mapping[str, int]) -> dict[str, int]:
    return {table.name: heads[table.name] for table in PINNED}


def _is_current(newest: Version, target: Resolved, imports: Sequence[Import], heads: Mapping[str, int]) -> bool:
    return (
        newest.pins == _pins(heads)
        and newest.content["fingerprint"] == target.fingerprint
        and newest.content["to_retry"] == 0
        and newest.provenance["import_ids"] == [done.id.hex() for done in imports]
    )


def _published(stages: Stages, rows: dict[str, pl.DataFrame], workspace: Workspace, newest: Version | None) -> Version:
    draft = workspace.versions.draft()
    content = content_of(stages, write_files(stages, rows, draft))
    if newest and content_hash(content) == newest.manifest["content_hash"]:
        remove_tree(draft)
        return newest
    version = workspace.versions.next(stages.recipe.recipe.name)
    # Pinned first: a version that is visible can always be rebuilt. A crash in between leaves a pin that gc removes.
    workspace.facts.pin(version.pin, stages.pins)
    return workspace.versions.publish(version, draft, content, stages.pins, provenance_of(stages, newest))


def _record_configs(target: Resolved, facts: FactStore, cache: Path) -> None:
    """Notes what the config ids in the fact tables stand for, so that a row's story can be told without the recipe."""
    rows: list[tuple[str, int | None, str, Json]] = []
    for config, block in zip(target.recipe.sample, target.blocks, strict=True):
        policy = config.policy or target.recipe.policy
        rows.append(("sampler", block.sampler_id, config.backend, config.identity_values()))
        rows.append(("policy", None, block.policy_id, policy.model_dump(mode="json") if policy else None))
    for config, labeller in zip(target.recipe.score, target.labellers, strict=True):
        identity = scorer_identity(config, target.folder, cache)
        rows.append(("scorer", labeller.scorer_id, ",".join(labeller.aspects), identity))
    known = set(facts.read(CONFIGS, ["id"])["id"])
    ids = {
        config_row_id(kind, number, name): (kind, number, name, canonical_json(value).decode())
        for kind, number, name, value in rows
    }
    new = {i: row for i, row in ids.items() if i not in known}
    if new:
        columns = list(zip(*new.values(), strict=True))
        schema = CONFIGS.schema
        arrays = {"id": list(new), "kind": columns[0], "config_id": columns[1], "name": columns[2], "json": columns[3]}
        facts.append(CONFIGS, pa.table({n: pa.array(v, schema.field(n).type) for n, v in arrays.items()}))
