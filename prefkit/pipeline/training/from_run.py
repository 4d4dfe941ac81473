"""A run becomes a version: the rows it trained on, with their prompts, texts and scores, and no model call.

What the run drew and labelled is brought into the fact tables first, each key once, so its rows can be traced and built
on like any others. Rows that were recorded and not served are outcomes of the version.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import chain as joined
from pathlib import Path
from typing import cast

import polars as pl
import pyarrow as pa

from prefkit.errors import RecipeError
from prefkit.identity import content_id
from prefkit.ledger import Ledger, StageAccount
from prefkit.pipeline.completions import KEPT
from prefkit.pipeline.draws import SAMPLED
from prefkit.pipeline.labels import SCORED
from prefkit.pipeline.outcomes import Dropped
from prefkit.pipeline.publish import PINNED, provenance
from prefkit.pipeline.ratings import RATED
from prefkit.pipeline.resolve import Resolved, resolved
from prefkit.pipeline.rows import TRAIN, pair_schema, to_arrow
from prefkit.pipeline.training.mixes import LIVE
from prefkit.pipeline.training.rows import TRAINABLE
from prefkit.pipeline.training.running import PROMPTS
from prefkit.pipeline.training.streaming import RunRecipe
from prefkit.records import COMPARISONS, COMPLETIONS, SCORES, FactTable
from prefkit.selection.outcomes import RowOutcome
from prefkit.store.facts import FactStore
from prefkit.store.files import remove_tree
from prefkit.store.manifest import Content, content_hash
from prefkit.store.runs import Run
from prefkit.store.versions import OUTCOMES, Version, write_rows
from prefkit.store.workspace import Workspace
from prefkit.stream.events import NewRows
from prefkit.stream.opening import RunFiles
from prefkit.stream.protocol import MicroBatch
from prefkit.stream.recording import chain, superseded
from prefkit.stream.replay import SERVED, fated_rows
from prefkit.stream.sources import ONLY

STAGES = {
    "prompt hygiene": ("task", (KEPT,)),
    "sample": ("draw", (SAMPLED,)),
    "completion hygiene": ("completion", (KEPT,)),
    "score": ("label", (SCORED,)),
    "compare": ("comparison", (RATED,)),
    "select": ("prompt", (RowOutcome.SELECTED,)),
    "select rows": ("candidate pair", (RowOutcome.SELECTED,)),
    "pair hygiene": ("pair", (KEPT,)),
    "version": ("row", (TRAIN,)),
    "tokens": ("pair", (TRAINABLE,)),
}
"""The stages of a micro-batch: the unit of each, and the outcomes that go on."""
MADE = (COMPLETIONS, SCORES, COMPARISONS)
SERVING = "serve"


def version_from_run(run: Run, name: str, workspace: Workspace) -> Version:
    """The version of the rows that the run trained on, in their order; the newest of the name where it is the same.

    Of a mix these are the rows that it sampled: the others are in their own versions. Raises RecipeError for a run
    that sampled none, and NotFoundError without a recording.
    """
    recording = RunFiles(run.folder, run.record.id).recording
    asked = RunRecipe.of(run)
    if asked.train.sync_period is None:
        raise RecipeError(f"run {run.name} trained on {run.record.data}, expected one that sampled: use that version")
    with workspace.building(name):
        target = resolved(asked.recipe, asked.folder, workspace.policy_cache)
        _bring_facts(recording, workspace.facts)
        heads = workspace.facts.heads()
        pins = {table.name: heads[table.name] for table in PINNED}
        rows, dropped = _rows(run, recording)
        draft = workspace.versions.draft()
        schema = pair_schema([a for labeller in target.labellers for a in labeller.aspects])
        files = {
            TRAIN: write_rows(draft / f"{TRAIN}.arrow", to_arrow(rows, schema), "pair_id"),
            OUTCOMES: write_rows(draft / f"{OUTCOMES}.arrow", dropped.table(), "id"),
        }
        content: Content = {
            "kind": "pairs",
            "fingerprint": content_id("run", run.record.id).hex(),
            "recipe": target.content() | {"run": run.record.id},
            "parents": [],
            "ledger": _ledger(recording).to_json(),
            "judges": [],
            "shift": None,
            "to_retry": 0,
            "files": dict(files),
        }
        newest = workspace.versions.newest(name)
        if newest and content_hash(content) == newest.manifest["content_hash"]:
            remove_tree(draft)
            return newest
        return _published(workspace, name, draft, content, pins, target, newest)


def _published(
    workspace: Workspace,
    name: str,
    draft: Path,
    content: Content,
    pins: dict[str, int],
    target: Resolved,
    newest: Version | None,
) -> Version:
    version = workspace.versions.next(name)
    workspace.facts.pin(version.pin, pins)
    return workspace.versions.publish(version, draft, content, pins, provenance(target, (), 0, newest))


def _bring_facts(recording: Path, facts: FactStore) -> None:
    """Appends what the recording holds and the fact tables do not."""
    for table in MADE:
        known = set(facts.read(table, ["id"])["id"].to_list())
        for rows in _facts(recording, table):
            new = pl.Series([i not in known for i in rows["id"].to_pylist()], dtype=pl.Boolean)
            if new.any():
                facts.append(table, rows.filter(new.to_arrow()))
                known.update(rows["id"].to_pylist())


def _facts(recording: Path, table: FactTable) -> Iterator[pa.Table]:
    """The facts of a table, in the order they were made; also of micro-batches that were superseded."""
    for batch in _batches(recording, with_superseded=True):
        if table.name in batch.facts:
            yield batch.facts[table.name]


def _batches(recording: Path, with_superseded: bool = False) -> Iterator[MicroBatch]:
    frames = joined(chain(recording), superseded(recording)) if with_superseded else chain(recording)
    for frame in frames:
        if isinstance(frame.event, NewRows):
            yield frame.event.batch


def _rows(run: Run, recording: Path) -> tuple[pl.DataFrame, Dropped]:
    """The served rows in the columns of a version of pairs, and the others as outcomes."""
    parts = [
        cast(pl.DataFrame, pl.from_arrow(rows)).with_columns(outcome=pl.Series(fate, dtype=pl.String))
        for rows, fate in _sampled(recording)
    ]
    if not parts:
        raise RecipeError(f"run {run.name} has sampled no row yet, expected some: go on with `--resume {run.name}`")
    recorded = pl.concat(parts)
    dropped = Dropped()
    dropped.add(SERVING, recorded.filter(pl.col("outcome") != SERVED).with_columns(id="row_id"))
    served = recorded.filter(pl.col("outcome") == SERVED).drop("policy_version", "outcome")
    tasks = cast(pl.DataFrame, pl.from_arrow(run.kept(PROMPTS)))
    rows = served.rename({"row_id": "pair_id"}).join(
        tasks.select("prompt_id", "answer", prompt="messages"), on="prompt_id", how="left", maintain_order="left"
    )
    completions = _completions(recording)
    for side in ("chosen", "rejected"):
        own = completions.rename({column: form.format(side) for column, form in _SIDE.items()})
        rows = rows.join(own, on=f"{side}_id", how="left", maintain_order="left")
    return rows, dropped


def _sampled(recording: Path) -> Iterator[tuple[pa.Table, list[str]]]:
    """The rows that the run sampled, a table per micro-batch, and the outcome of each."""
    for event, fate in fated_rows(recording):
        if event.source in (ONLY, LIVE):
            yield event.batch.rows, fate


_SIDE = {
    "id": "{}_id",
    "completion": "{}",
    "token_ids": "{}_token_ids",
    "behavior_logps": "behavior_{}_logps",
    "policy_id": "{}_policy_id",
    "policy_version": "{}_policy_version",
}


def _completions(recording: Path) -> pl.DataFrame:
    columns = ["id", "completion", "token_ids", "behavior_logprobs", "policy_id", "policy_version"]
    made = pa.concat_tables(table.select(columns) for table in _facts(recording, COMPLETIONS))
    frame = cast(pl.DataFrame, pl.from_arrow(made)).unique("id", keep="first", maintain_order=True)
    logps = pl.col("behavior_logprobs").list.eval(pl.element().cast(pl.Float64)).list.sum()
    known = pl.col("behavior_logprobs").is_not_null()
    return frame.with_columns(behavior_logps=pl.when(known).then(logps)).drop("behavior_logprobs")


def _ledger(recording: Path) -> Ledger:
    """The accounts of all micro-batches together, and what became of the rows they gave."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for batch in _batches(recording):
        for stage, outcomes in batch.outcomes.items():
            counts[stage].update(outcomes)
    ledger = Ledger()
    for stage, outcomes in counts.items():
        unit, kept = STAGES[stage]
        ledger.put(StageAccount(stage, unit, outcomes.total(), outcomes, sum(outcomes[k] for k in kept)))
    fates = Counter(outcome for _, fate in _sampled(recording) for outcome in fate)
    ledger.put(StageAccount(SERVING, "row", ledger.kept("tokens"), fates, fates[SERVED]))
    return ledger
