"""`build`: from a recipe to a version, computing only what is missing.

A build that finds the recipe's fingerprint, its import and the heads of all fact tables as the newest version has them
returns that version at once. Otherwise all stages run over the facts, and the rows are published when they differ from
the newest version's: same recipe and same facts give the same bytes, so nothing new is written twice.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pyarrow as pa

from prefkit.errors import DamageError
from prefkit.identity import Json, canonical_json
from prefkit.pipeline.check.reference_maker import LocalReference
from prefkit.pipeline.comparing import Judge, compare
from prefkit.pipeline.draws import Block, draw, to_do
from prefkit.pipeline.imports.content import Import, feeding
from prefkit.pipeline.imports.importing import import_prompts
from prefkit.pipeline.labels import Labeller, label, with_texts
from prefkit.pipeline.progress import Progress, Silent
from prefkit.pipeline.publish import PINNED, content_of, provenance_of, write_files
from prefkit.pipeline.recipe import Recipe
from prefkit.pipeline.resolve import Resolved, placed_policy, prompts_file, resolved
from prefkit.pipeline.stages import Stages
from prefkit.records import CONFIGS
from prefkit.row_keys import config_row_id
from prefkit.sampling.config import EndpointSampler
from prefkit.sampling.registry import open_sampler
from prefkit.scoring.config import JudgeScorer
from prefkit.scoring.judge.opening import transport_of
from prefkit.scoring.registry import open_comparer, open_scorer, scorer_identity
from prefkit.spending import Amount, Budget
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
    own_samples: int = 0
    """Drawn from the reference of the check."""
    logps: int = 0
    """Completions scored under it."""
    spent: Amount = field(default_factory=Amount)
    """What the judges and endpoints of this build were billed."""


@dataclass
class LocalMaker:
    """Computes missing facts in this process."""

    recipe: Resolved
    facts: FactStore
    cache: Path
    progress: Progress
    retry: Collection[str]
    budget: Budget
    batches: Path
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
        requests = missing.select("prompt_id", "sample_index", "completion_id", "attempt")
        requests = requests.with_columns(messages=tasks["messages"].gather(missing["prompt"]))
        # Closed before the next block or scorer opens its own: a GPU may hold only one of them.
        with closing(open_sampler(config, policy, self.cache, self.budget)) as sampler:
            if sampler.policy_id != block.policy_id:
                changed = f"the weights of {block.policy_id} changed while the build was starting"
                raise DamageError(f"{changed}: run it again")
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
        folder = self.recipe.folder
        scorer = open_scorer(config, folder, labeller.scorer_id, self.budget, self.cache, self.batches)
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
        comparer = open_comparer(judge.config, self.recipe.folder, judge.scorer_id, self.budget, self.batches)
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
        imports = fed_imports(target, workspace.facts)
        newest = workspace.versions.newest(recipe.name)
        if newest and not retry and _is_current(newest, target, imports, workspace.facts.heads()):
            return Built(newest, new=False)
        budget = Budget(recipe.budget.usd, recipe.budget.tokens) if recipe.budget else Budget()
        batches = workspace.batches(recipe.name)
        require_means(recipe, budget, batches)
        record_configs(target, workspace.facts, workspace.policy_cache)
        told = progress or Silent()
        maker = LocalMaker(target, workspace.facts, workspace.policy_cache, told, retry, budget, batches)
        reference = None
        if target.yardstick:
            reference = LocalReference(target.yardstick, workspace.facts, workspace.policy_cache, told, retry)
        stages, rows = _passed(maker, reference, imports, parents)
        version = _published(stages, rows, workspace, newest)
        own, logps = (reference.drawn, reference.scored) if reference else (0, 0)
        made = (maker.drawn, maker.labelled, maker.compared, own, logps)
        return Built(version, version != newest, *made, budget.spent)


def _passed(
    maker: LocalMaker, reference: LocalReference | None, imports: Sequence[Import], parents: Sequence[str]
) -> tuple[Stages, dict[str, pl.DataFrame]]:
    """All stages, run, with the rows by split.

    A check pins the completions anew when it has drawn its reference's own samples. What somebody else stored in
    between could change the stages before it, so these are then run again; nothing is computed twice.
    """
    while True:
        pins = _pins(maker.facts.heads())
        stages = Stages(maker.recipe, maker.facts, imports, pins, maker, parents=tuple(parents), reference=reference)
        rows = stages.run()
        if not stages.overtaken:
            return stages, rows


def require_means(recipe: Recipe, budget: Budget, batches: Path) -> None:
    """Raises what is missing to pay judges and endpoints, a key or a price, before anything is sampled."""
    for config in recipe.score:
        if isinstance(config, JudgeScorer):
            transport_of(config, budget, batches)
    for block in recipe.sample:
        policy = block.policy or recipe.policy
        if isinstance(block, EndpointSampler) and policy:
            budget.require_price(block.price, f"policy {policy.model!r}")


def fed_imports(target: Resolved, facts: FactStore) -> tuple[Import, ...]:
    """What feeds the recipe's source; a file of prompts, or a dataset of the Hub, is imported where it is new."""
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


def record_configs(target: Resolved, facts: FactStore, cache: Path) -> None:
    """Notes what the config ids in the fact tables stand for, so that a row's story can be told without the recipe."""
    rows: list[tuple[str, int | None, str, Json]] = []
    if yardstick := target.yardstick:
        sampler = yardstick.sampler
        rows.append(("sampler", sampler.sampler_id, sampler.backend, sampler.identity_values()))
        rows.append(("policy", None, yardstick.model_id, sampler.model_dump(mode="json")["policy"]))
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
