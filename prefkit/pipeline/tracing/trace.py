"""`trace`: a row's whole story, for dropped rows too.

Everything about a row hangs on its prompt, so that is found first. Facts are read as they are now: a story also tells
what was computed or imported after the versions that it names.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from prefkit.pipeline.tracing.configs import Configs
from prefkit.pipeline.tracing.fates import PromptFate, PromptIds, prompt_fates
from prefkit.pipeline.tracing.finding import FoundRow, found_row, told_completions
from prefkit.pipeline.tracing.story import (
    ComparisonStory,
    CompletionKey,
    CompletionStory,
    ScoreStory,
    Settings,
    Story,
)
from prefkit.pipeline.tracing.tries import REPLY, TRY, Row, by_id, calls_of, draw_of, task_of, tried
from prefkit.pipeline.tracing.verdicts import InVersion, RowKind, Use
from prefkit.records import COMPARISONS, COMPLETIONS, IMPORTED_POLICY, PROMPTS, SCORES, TASKS
from prefkit.store.facts import FactStore, settled
from prefkit.store.versions import Version
from prefkit.store.workspace import Workspace

_KEY = ("policy_id", "policy_version", "sampler_id", "sample_index")
_DRAW = ("completion", "finish_reason", "token_ids")
_RATED = ("scorer_id", "aspect", "repeat", "input_id")


def row_story(workspace: Workspace, row_id: str) -> Story:
    """The story of the prompt, task, completion, score, comparison or pair whose id begins with these hex digits.

    Takes six digits at least. Raises NotFoundError when there is no such row, RecipeError when these are no such digits
    or several rows begin with them.
    """
    with workspace.shared():
        versions = [v for name in workspace.versions.names() for v in workspace.versions.all(name)]
        found = found_row(workspace.facts, versions, row_id)
        return _story(workspace.facts, versions, found)


def _story(facts: FactStore, versions: Iterable[Version], found: FoundRow) -> Story:
    known = _Known.of(facts, versions, found)
    completions = tuple(known.completion(i) for i in known.told)
    compared = sorted((known.comparison(rows) for rows in by_id(known.comparisons)), key=_place_of_comparison)
    messages = facts.read(PROMPTS, ["messages"], {"id": found.prompt_id}).row(0)[0]
    tasks = tuple(task_of(row) for row in known.tasks.sort("batch_id", "id").iter_rows(named=True))
    return Story(
        found.kind,
        found.id.hex(),
        found.prompt_id.hex(),
        messages,
        tasks,
        completions,
        tuple(_nearest_first(compared, completions, found)),
        tuple(_versions(known.fates, completions, found)),
    )


@dataclass(frozen=True, slots=True)
class _Known:
    """Everything in the fact tables about the told completions of a prompt."""

    told: Sequence[bytes]
    tasks: pl.DataFrame
    draws: pl.DataFrame
    """Of all completions of the prompt, with their `text` and whether they are `imported`."""
    scores: pl.DataFrame
    comparisons: pl.DataFrame
    configs: Configs
    fates: Sequence[PromptFate]

    @classmethod
    def of(cls, facts: FactStore, versions: Iterable[Version], found: FoundRow) -> "_Known":
        of_prompt = {"prompt_id": found.prompt_id}
        tasks = settled(facts.read(TASKS, ["id", "batch_id", "answer", "source", "split", "metadata"], of_prompt))
        draws = tried(facts.read(COMPLETIONS, [*TRY, *_KEY, *_DRAW], of_prompt)).with_columns(
            imported=pl.col("policy_id").str.starts_with(IMPORTED_POLICY),
            text=pl.col("completion").list.eval(pl.element().struct.field("content")).list.join("\n\n"),
        )
        ids = draws.sort(*_KEY)["id"].unique(maintain_order=True)
        told = told_completions(facts, found, ids)
        texts = draws.filter(pl.col("id").is_in(told))["text"].drop_nulls()
        copies = draws.filter(pl.col("imported"), pl.col("text").is_in(texts.implode()))["id"]
        rated = sorted({*told, *copies})
        scores = tried(facts.read(SCORES, [*TRY, "completion_id", *_RATED, "score", *REPLY], {"completion_id": rated}))
        comparisons = _compared(facts, rated)
        ratings = pl.concat([scores["id"], comparisons["id"]]).unique()
        fates = prompt_fates(facts, versions, PromptIds(found.prompt_id, tasks["id"], ids, ratings))
        return cls(told, tasks, draws, scores, comparisons, Configs.read(facts), fates)

    def completion(self, completion_id: bytes) -> CompletionStory:
        """The story of one completion."""
        draws = self.draws.filter(pl.col("id") == completion_id)
        row = draws.row(0, named=True)
        key = CompletionKey(completion_id.hex(), *(row[name] for name in _KEY))
        copies = self._copies(draws)
        rated = self.scores.filter(pl.col("completion_id").is_in([completion_id, *copies]))
        scores = sorted((self.score(rows) for rows in by_id(rated)), key=_place_of_score)
        own = [s for s in scores if s.scorer.annotator is not None or s.completion_id == key.id]
        model = key.policy_id.removeprefix(IMPORTED_POLICY) if row["imported"] else None
        return CompletionStory(
            key,
            model,
            self.configs.policies.get(key.policy_id),
            None if row["imported"] else self.configs.settings("sampler", key.sampler_id),
            tuple(copy.hex() for copy in copies),
            tuple(draw_of(row) for row in draws.iter_rows(named=True)),
            tuple(own),
            tuple(fate.of_completion(key, [s.id for s in own]) for fate in self.fates),
        )

    def _copies(self, draws: pl.DataFrame) -> list[bytes]:
        same = self.draws.filter(pl.col("imported"), pl.col("text").is_in(draws["text"].drop_nulls().implode()))
        return [i for i in same["id"].unique().sort() if i != draws["id"][0]]

    def score(self, rows: pl.DataFrame) -> ScoreStory:
        """The story of one score."""
        row = rows.row(0, named=True)
        scorer = self.configs.settings("scorer", row["scorer_id"])
        uses = self._uses(row, RowKind.SCORE, scorer)
        rated = (row["aspect"], row["repeat"], row["input_id"])
        return ScoreStory(row["id"].hex(), row["completion_id"].hex(), scorer, *rated, calls_of(rows, "score"), uses)

    def comparison(self, rows: pl.DataFrame) -> ComparisonStory:
        """The story of one comparison."""
        row = rows.row(0, named=True)
        scorer = self.configs.settings("scorer", row["scorer_id"])
        sides = (row["completion_a"].hex(), row["completion_b"].hex())
        rated = (row["aspect"], row["order"], row["repeat"], row["input_id"])
        uses = self._uses(row, RowKind.COMPARISON, scorer)
        return ComparisonStory(row["id"].hex(), *sides, scorer, *rated, calls_of(rows, "preference"), uses)

    def _uses(self, row: Row, kind: RowKind, scorer: Settings) -> tuple[Use, ...]:
        if scorer.annotator is None:
            return ()
        told = (fate.of_rating(row["id"].hex(), kind, scorer.annotator, row["aspect"]) for fate in self.fates)
        return tuple(use for uses in told for use in uses)


def _versions(
    fates: Iterable[PromptFate], completions: Sequence[CompletionStory], found: FoundRow
) -> Iterable[InVersion]:
    keys = [story.key for story in completions]
    match found.kind:
        case RowKind.PAIR:
            return [fate.of_pair(found.id.hex(), keys) for fate in fates]
        case RowKind.COMPARISON:
            return [fate.of_compared(keys) for fate in fates]
        case RowKind.PROMPT | RowKind.TASK:
            return [fate.of_prompt() for fate in fates]
        case _:
            return []


def _nearest_first(
    compared: Sequence[ComparisonStory], completions: Sequence[CompletionStory], found: FoundRow
) -> Sequence[ComparisonStory]:
    """The comparison that was asked for first, then those between both sides, then those with other completions."""
    if found.kind not in (RowKind.PAIR, RowKind.COMPARISON):
        return compared
    one, other = (story.texts for story in completions)
    between = sorted((c for c in compared if c.is_between(one, other)), key=lambda c: c.id != found.id.hex())
    if found.kind == RowKind.COMPARISON:
        return between
    return [*between, *(c for c in compared if not c.is_between(one, other))]


def _compared(facts: FactStore, ids: Sequence[bytes]) -> pl.DataFrame:
    columns = [*TRY, "completion_a", "completion_b", *_RATED, "order", "preference", *REPLY]
    parts = [facts.read(COMPARISONS, columns, {side: ids}) for side in ("completion_a", "completion_b")]
    parts[1] = parts[1].filter(~pl.col("completion_a").is_in(ids))
    return tried(pl.concat(parts))


def _place_of_score(story: ScoreStory) -> tuple[object, ...]:
    return story.aspect, story.scorer.id, story.input_id, story.repeat


def _place_of_comparison(story: ComparisonStory) -> tuple[object, ...]:
    return story.aspect, story.scorer.id, story.completion_a, story.completion_b, story.repeat, story.order
