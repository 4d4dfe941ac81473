"""`examine`: reads a recipe's prompts, the completions there are, how long they are, and the build's plan."""

import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from prefkit.errors import PrefkitError
from prefkit.pipeline.completions import DRAW_COLUMNS, candidates_of, cleaned, usable
from prefkit.pipeline.doctor.examined import Examined
from prefkit.pipeline.doctor.findings import Finding, Severity
from prefkit.pipeline.doctor.reading import ByteReader, Reader, reader_of
from prefkit.pipeline.draws import known_draws, planned_draws
from prefkit.pipeline.dry_run import DryRun, dry_run_of
from prefkit.pipeline.imports.candidates import imported_completions
from prefkit.pipeline.imports.content import feeding, held, newest_import, source_tasks
from prefkit.pipeline.imports.importing import file_job, linked_tasks, previewed
from prefkit.pipeline.prompts import numbered, prompt_stage
from prefkit.pipeline.recipe import CompletionsConfig, Recipe
from prefkit.pipeline.resolve import Resolved, prompts_file, resolved, source_name
from prefkit.records import COMPLETIONS, IMPORTS
from prefkit.sampling.protocol import Message
from prefkit.sources.outcomes import ImportOutcome
from prefkit.store.workspace import Workspace

STAND_IN = "Yes."
"""The completion of a prompt that has none yet, for the template's prefix rule."""
_TEXT = pl.col("messages").list.eval(pl.element().struct.field("content")).list.join("\n").alias("text")
_NO_TASKS = pl.DataFrame(
    schema={
        "task_id": pl.Binary, "prompt_id": pl.Binary, "answer": pl.String, "source": pl.String, "split": pl.String,
        "metadata": pl.String, "messages": pl.List(pl.Struct({"role": pl.String, "content": pl.String})),
        "outcome": pl.String,
    }
)  # fmt: skip
_NO_COMPLETIONS = pl.DataFrame(schema={"prompt": pl.UInt32, "text": pl.String})


def examine(recipe: Recipe, folder: Path, workspace: Workspace | None) -> Examined:
    """Everything that can be read for the recipe. Without a workspace there are no facts; nothing is written to one.

    What cannot be read is told in `troubles` and left empty, so one mistake never hides another.
    """
    troubles: list[Finding] = []
    with _place(workspace) as place:
        tasks, dropped, completions = _NO_TASKS, dict[str, int](), _NO_COMPLETIONS
        plan: DryRun | None = None
        reader: Reader = ByteReader("the policy cannot be read")
        with _told(troubles):
            tasks, dropped = _tasks(recipe, folder, place)
        with _told(troubles), _scratch_cache(place) as cache:
            completions = _completions(resolved(recipe, folder, cache), place, numbered(tasks))
        with _told(troubles):
            plan = dry_run_of(recipe, place, folder)
        with _told(troubles):
            reader = reader_of(recipe, folder)
        prompts = _read_prompts(numbered(tasks).with_columns(_TEXT), completions, reader, recipe)
        completions = _read_completions(prompts, completions, reader)
    return Examined(
        recipe, folder, tasks.with_columns(_TEXT), dropped, prompts, completions,
        reader.context, reader.estimated, plan, tuple(dict.fromkeys(troubles)),
    )  # fmt: skip


@contextmanager
def _told(troubles: list[Finding]) -> Generator[None]:
    try:
        yield
    except PrefkitError as error:
        troubles.append(Finding("recipe", Severity.ERROR, str(error)))


@contextmanager
def _place(workspace: Workspace | None) -> Generator[Workspace]:
    """The workspace, or an empty one for the time being."""
    if workspace is not None:
        yield workspace
        return
    with TemporaryDirectory() as scratch:
        yield Workspace.create(Path(scratch))


@contextmanager
def _scratch_cache(workspace: Workspace) -> Generator[Path]:
    """The digests of model files that are remembered, in a file that may be written to."""
    with TemporaryDirectory() as scratch:
        cache = Path(scratch) / workspace.policy_cache.name
        if workspace.policy_cache.exists():
            shutil.copyfile(workspace.policy_cache, cache)
        yield cache


def _tasks(recipe: Recipe, folder: Path, workspace: Workspace) -> tuple[pl.DataFrame, dict[str, int]]:
    """The tasks of the source with the outcome of prompt hygiene, and the rows that are no task by outcome."""
    if recipe.prompts.imported:
        facts = workspace.facts
        imports = feeding(facts, recipe.prompts.imported)
        tasks, counts = source_tasks(facts, imports, facts.heads()), dict(imports[0].outcomes.get("prompts", {}))
    else:
        mapping = {str(ours): theirs for ours, theirs in recipe.prompts.map.items()}
        job = file_job(prompts_file(recipe, folder), "prompts", mapping, source_name(recipe))
        found = previewed(None, job)
        tasks, counts = linked_tasks(found), found.counts().get("prompts", {})
    counts.pop(ImportOutcome.IMPORTED, None)
    return prompt_stage(tasks, recipe.hygiene, recipe.prompts.limit), counts


def _completions(target: Resolved, workspace: Workspace, prompts: pl.DataFrame) -> pl.DataFrame:
    """The completions there are, drawn and imported, that hygiene keeps: `prompt` and `text`."""
    facts, config = workspace.facts, target.recipe.imported
    at = facts.heads()
    draws = [
        known_draws(facts, planned_draws(prompts, b), b, DRAW_COLUMNS, at[COMPLETIONS.name]) for b in target.blocks
    ]
    imports = feeding(facts, target.source) if config and newest_import(facts, target.source) else ()
    ids = held(facts, imports, "completion_ids", at[IMPORTS.name])
    imported = imported_completions(
        facts, ids, prompts, config or CompletionsConfig(), len(target.blocks), at[COMPLETIONS.name]
    )
    return candidates_of(cleaned(usable([*draws, imported]), target.recipe.hygiene)).select("prompt", "text")


def _read_prompts(prompts: pl.DataFrame, completions: pl.DataFrame, reader: Reader, recipe: Recipe) -> pl.DataFrame:
    messages: list[list[Message]] = prompts["messages"].to_list()
    tokens = pl.Series("tokens", reader.prompt_tokens(messages), pl.Int64)
    systems = {block.system for block in recipe.sample if block.system is not None}
    sampled = [pl.Series(reader.prompt_tokens(_with_system(messages, s)), dtype=pl.Int64) for s in sorted(systems)]
    first = completions.unique("prompt", keep="first", maintain_order=True)
    text = prompts.join(first.select("prompt", first="text"), on="prompt", how="left", maintain_order="left")["first"]
    prefix = reader.keeps_prefix(messages, text.fill_null(STAND_IN).to_list())
    return prompts.with_columns(
        tokens,
        pl.DataFrame([tokens, *(s.alias(f"with system {i}") for i, s in enumerate(sampled))])
        .max_horizontal()
        .alias("sampled_tokens"),
        pl.Series("prefix", prefix or [None] * prompts.height, pl.Boolean),
    )


def _with_system(prompts: Sequence[Sequence[Message]], system: str) -> list[list[Message]]:
    return [[{"role": "system", "content": system}, *prompt] for prompt in prompts]


def _read_completions(prompts: pl.DataFrame, completions: pl.DataFrame, reader: Reader) -> pl.DataFrame:
    whole = completions.join(prompts.select("prompt", "messages"), on="prompt", how="left", maintain_order="left")
    conversations: list[list[Message]] = [
        [*messages, {"role": "assistant", "content": text}]
        for messages, text in whole.select("messages", "text").rows()
    ]
    return completions.with_columns(pl.Series("tokens", reader.tokens(conversations), pl.Int64))
