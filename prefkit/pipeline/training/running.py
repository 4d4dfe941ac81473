"""The start of a run: what of a recipe decides its rows, written into the run's own folder.

From there on a run needs neither the recipe's files nor the fact tables: it can go on, and be replayed, where only its
folder is. A run over a version, or over a file of prompts, can also start where there is no Lance to keep facts in.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import polars as pl
import pyarrow as pa

from prefkit.errors import MissingExtraError, NotBuiltError, NotFoundError, RecipeError, suggestion
from prefkit.identity import Json, content_id
from prefkit.ledger import Ledger
from prefkit.pipeline.build import fed_imports
from prefkit.pipeline.check.behind_system import system_of
from prefkit.pipeline.imports.content import source_tasks
from prefkit.pipeline.prompts import KEPT, numbered, prompt_stage
from prefkit.pipeline.publish import PINNED
from prefkit.pipeline.recipe import Recipe, TrainConfig
from prefkit.pipeline.resolve import Resolved, placed_policy, resolved
from prefkit.pipeline.rows import REF_LOGPS, TRAIN, split_of
from prefkit.pipeline.training.mixes import LIVE, decisive, placed_mix, refuse_mix, sources_of
from prefkit.sampling.config import PolicyConfig
from prefkit.sampling.policy import policy_id
from prefkit.scoring.config import ImportedScorer
from prefkit.store.facts import FactStore
from prefkit.store.memory_facts import MemoryFacts
from prefkit.store.runs import Run, RunOutcome, RunRecord, Runs
from prefkit.store.versions import Version
from prefkit.store.workspace import Workspace
from prefkit.stream.clock import Clock, refuse_reference

MAX_LENGTH = 1024
"""TRL's longest prompt and completion."""
METHODS = ("dpo",)
LATER = ("grpo", "rloo", "ppo", "sft", "kto", "orpo", "simpo", "cpo", "ipo", "reward")
PROMPTS, DATA = "prompts", "data"
"""Files of a run: what it samples from, or the rows it trains on."""


@dataclass(frozen=True, slots=True)
class RunStart:
    """What a run was asked for; relative paths of the recipe start from `folder`."""

    recipe: Recipe
    folder: Path
    data: str | None = None
    """A version; by default the newest of the recipe's name. Only without a `sync_period` and without a mix."""
    name: str | None = None
    """By default the recipe's name and a number."""
    reproducible: bool = True
    """Whether the same run would give the same weights. Then another run of the same recipe has the same id."""
    ranks: int = 1
    """How many processes train together: batches, so rows and weights, depend on it."""


@dataclass(frozen=True, slots=True)
class Begun:
    """What a run draws its rows from."""

    train: TrainConfig
    """As asked for, with versions by label."""
    files: Mapping[str, pa.Table]
    """Of its folder."""
    identity: Mapping[str, Json]
    """What of them decides its rows."""
    told: str | None
    """For people; None for own samples alone."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A training that has come to its end."""

    name: str
    """Of the run."""
    folder: Path
    """Holds `model/` and `metrics.jsonl`."""
    outcome: RunOutcome
    resumed_from: int
    """The step it went on from; 0 for its start."""


def started_run(start: RunStart, workspace: Workspace) -> Run:
    """A new run with all its files. Raises RecipeError or NotFoundError, in one line, for what cannot be trained."""
    train = trained_by(start.recipe)
    runs = Runs(workspace.root)
    name = start.name or runs.free_name(start.recipe.name)
    cache = workspace.policy_cache
    target = resolved(start.recipe, start.folder, cache)
    policy = policy_of(start.recipe, start.folder)
    weights = policy_id(policy.model, cache, policy.revision)
    begun = _begun(start, train, target, weights, workspace)
    run = runs.prepare(name)
    for file, rows in begun.files.items():
        run.keep(file, rows)
    identity: dict[str, Json] = {**begun.identity, "policy": weights, "train": _decisive(train)}
    if start.ranks > 1:
        identity["ranks"] = start.ranks
    noise = "" if start.reproducible else f"-{uuid.uuid4().hex[:8]}"
    record = RunRecord(
        id=content_id("run", identity).hex()[:16] + noise,
        method=train.method,
        recipe=start.recipe.model_copy(update={"train": begun.train}).model_dump(mode="json"),
        folder=str(start.folder),
        policy_id=weights,
        data=begun.told,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        ranks=start.ranks,
    )
    run.begin(record)
    return run


def _begun(start: RunStart, train: TrainConfig, target: Resolved, weights: str, workspace: Workspace) -> Begun:
    if train.mix:
        return _begun_mix(start, train, target, workspace)
    if train.sync_period is None:
        version = _version(start, workspace)
        pairs = version_pairs(version)
        if not _holds_sums(version, train, weights, system_of(start.recipe)):
            pairs = pairs.select([name for name in pairs.column_names if name not in REF_LOGPS["pairs"].values()])
        return Begun(train, {DATA: pairs}, {"data": version.manifest["content_hash"]}, version.label)
    _require_live(start)
    return Begun(train, {PROMPTS: run_prompts(target, workspace)}, {"data": target.fingerprint}, None)


def _holds_sums(version: Version, train: TrainConfig, weights: str, system: str | None) -> bool:
    """Whether the version was checked against these very weights, over the tokens that the run will train on."""
    check = cast("dict[str, Json] | None", version.content["recipe"].get("check"))
    wanted = {"model_id": weights, "system": system, "max_length": max_length_of(train), "dtype": "float32"}
    return check is not None and all(check.get(name) == value for name, value in wanted.items())


def max_length_of(train: TrainConfig) -> int | None:
    """Longest prompt and completion that are trained on, in tokens."""
    return cast("int | None", train.args.get("max_length", MAX_LENGTH))


def _begun_mix(start: RunStart, train: TrainConfig, target: Resolved, workspace: Workspace) -> Begun:
    if start.data is not None:
        raise RecipeError(
            f"--data {start.data} was given and train.mix is set, expected one of them: name the version in train.mix"
        )
    placed, versions = placed_mix(train, workspace.versions)
    files = {data_file(label): version_pairs(version) for label, version in versions.items()}
    source = None
    if train.sync_period is not None:
        _require_live(start)
        files[PROMPTS] = run_prompts(target, workspace)
        source = target.fingerprint
    identity = {"data": source, "mix": decisive(placed, versions)}
    return Begun(placed, files, identity, " + ".join(sources_of(placed)))


def data_file(source: str) -> str:
    """The file of a run that holds what a source of its mix draws from."""
    return PROMPTS if source == LIVE else f"{DATA}-{source}"


def trained_prompts(run: Run) -> pl.Series:
    """The ids of the prompts that a run samples from, or whose rows it trains on."""
    train = Recipe.model_validate(run.record.recipe).train
    mixed = [data_file(source) for source in sources_of(train)] if train else []
    files = mixed or [PROMPTS if run.record.data is None else DATA]
    return pl.concat([cast(pl.Series, pl.from_arrow(run.kept(file)["prompt_id"])) for file in files])


def trained_by(recipe: Recipe) -> TrainConfig:
    """The recipe's `train` block, checked as a whole. Raises RecipeError or NotBuiltError."""
    train = recipe.train
    if train is None:
        raise RecipeError(
            f"recipe {recipe.name} has no `train`, expected a block with a method: add `train: {{method: dpo}}`"
        )
    if train.method not in METHODS:
        if train.method in LATER:
            raise NotBuiltError(f"train.method {train.method!r} is not in this release, expected {', '.join(METHODS)}")
        raise RecipeError(f"train.method {train.method!r} is unknown{suggestion(train.method, [*METHODS, *LATER])}")
    if recipe.kind != "pairs":
        raise RecipeError(
            f"train.method {train.method!r} needs pairs and select.kind {recipe.select.kind!r} gives single "
            "completions: use best_vs_worst, correct_vs_incorrect or another pair strategy"
        )
    refuse_reference(train.reference, train.reference_reset_period)
    if train.reference == "reset" and train.sync_period is None:
        raise RecipeError(
            "train.reference is 'reset' and sync_period is null, expected a run that samples: a version's reference "
            "sums are made once; write `reference: fixed`, or set train.sync_period"
        )
    clock_of(train)
    refuse_mix(train)
    return train


def clock_of(train: TrainConfig) -> Clock:
    """The clock that the recipe asks for. Raises RecipeError for periods that no run could keep."""
    return Clock(train.sync_period, train.reference_reset_period, train.max_staleness)


def policy_of(recipe: Recipe, folder: Path) -> PolicyConfig:
    """The policy in training, its folder made absolute. Raises RecipeError when the recipe has none."""
    policy = placed_policy(recipe.policy, folder)
    if policy is None:
        raise RecipeError(
            f"recipe {recipe.name} has no policy, expected the model to train: add `policy: {{model: ...}}`"
        )
    return policy


def run_prompts(target: Resolved, workspace: Workspace) -> pa.Table:
    """The tasks a run samples from, those that are held out left out, sorted by prompt."""
    kept = split_tasks(target, workspace, TRAIN)
    if kept.is_empty():
        raise RecipeError(
            f"source {target.source!r} has no prompt to train on, expected some: check `split` and `hygiene`"
        )
    return kept.drop("prompt").to_arrow(compat_level=pl.CompatLevel.oldest())


def split_tasks(target: Resolved, workspace: Workspace, split: str) -> pl.DataFrame:
    """The tasks of a split that prompt hygiene keeps, sorted by prompt and numbered among those of all splits."""
    facts = _facts(target.recipe, workspace)
    imports = fed_imports(target, facts)
    heads = facts.heads()
    tasks = source_tasks(facts, imports, {table.name: heads[table.name] for table in PINNED})
    recipe = target.recipe
    tasks = prompt_stage(tasks, recipe.hygiene, recipe.prompts.limit)
    Ledger().add("prompt hygiene", "task", tasks.height, tasks["outcome"], [KEPT])
    kept = numbered(tasks)
    return kept.filter(split_of(kept, recipe.split) == split)


def _facts(recipe: Recipe, workspace: Workspace) -> FactStore:
    """Where the tasks are. Where there are no facts, a file of prompts says all that a run needs of them."""
    try:
        return workspace.facts
    except MissingExtraError:
        if recipe.prompts.imported or workspace.has_facts:
            raise
        return MemoryFacts()


def version_pairs(version: Version) -> pa.Table:
    """The train rows of a version of pairs, as a run reads them."""
    if version.content["kind"] != "pairs":
        raise RecipeError(f"version {version.label} holds single completions, expected pairs: train on another version")
    rows = version.frame(TRAIN).collect()
    if rows.is_empty():
        raise RecipeError(f"version {version.label} has no train rows, expected some: build it from more prompts")
    return rows.to_arrow(compat_level=pl.CompatLevel.oldest())


def _version(start: RunStart, workspace: Workspace) -> Version:
    if start.data is not None:
        return workspace.versions.get(start.data)
    newest = workspace.versions.newest(start.recipe.name)
    if newest is None:
        raise NotFoundError(
            f"{start.recipe.name} has no version, expected one since train.sync_period is null: run `prefkit build` "
            "first, or set `train.sync_period` to sample while training"
        )
    return newest


def _require_live(start: RunStart) -> None:
    recipe = start.recipe
    if start.data is not None:
        raise RecipeError(
            f"--data {start.data} was given and train.sync_period is set, expected one of them: a run that samples "
            "reads no version; use `--set train.sync_period=null`"
        )
    if not any(block.policy is None for block in recipe.sample):
        raise RecipeError(
            "train.sync_period is set and no `sample` block draws from the policy in training, expected one without "
            "its own `policy`: add it, or set train.sync_period to null"
        )
    if imported := [s.scorer for s in recipe.score if isinstance(s, ImportedScorer)]:
        raise RecipeError(
            f"scorer {imported[0]!r} is imported, expected one that can label new completions since train.sync_period "
            "is set: use a verifier, judge or reward model, or set train.sync_period to null"
        )
    if recipe.completions is not None:
        raise RecipeError(
            "`completions` are imported and train.sync_period is set, expected only new ones: take the block out"
        )


def _decisive(train: TrainConfig) -> Json:
    """What of the block decides rows and weights, in a form that can be hashed: JSON has no infinity."""
    told: dict[str, Json] = train.model_dump(mode="json", exclude={"mix"})
    period = train.sync_period
    return told | {"sync_period": None if period is None else f"{period:g}"}
