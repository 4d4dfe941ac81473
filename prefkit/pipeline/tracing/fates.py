"""What became of one prompt, and of its completions, ratings and pairs, in each version.

Rows and outcomes carry the prompt id, so of every version only this prompt's are read. What a version asked for comes
from its manifest: what the imports it was made from hold, the policy, sampler and `n` of each `sample` block, and the
imported scorers. A row that was asked for and is neither in the version nor among its outcomes was not selected; a
rating that was asked for and is not among the outcomes counted.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, cast

import numpy as np
import polars as pl

from prefkit.identity import id_words, row_ids
from prefkit.pipeline.prompt_shares import in_share
from prefkit.pipeline.publish import PAIRS
from prefkit.pipeline.ratings import RATED
from prefkit.pipeline.tracing.stage_kinds import kinds_of_stages, rating_stages
from prefkit.pipeline.tracing.story import CompletionKey
from prefkit.pipeline.tracing.verdicts import Ending, InVersion, Placement, RowKind, Use, Verdict
from prefkit.records import IMPORTED_POLICY, IMPORTS
from prefkit.store.facts import FactStore
from prefkit.store.versions import Version

_PAIR = ("pair_id", "chosen_id", "rejected_id", "chosen_score", "rejected_score", "score_margin", "split")
_SUBSET = ("completion_id", "score", "label", "weight", "split")
_HELD = ("task_ids", "completion_ids", "score_ids", "comparison_ids")


@dataclass(frozen=True, slots=True)
class PromptIds:
    """A prompt, and everything in the fact tables that hangs on it and is of interest."""

    prompt: bytes
    tasks: pl.Series
    completions: pl.Series
    ratings: pl.Series
    """Imported scores and comparisons."""


@dataclass(frozen=True, slots=True)
class PromptFate:
    """What one version says about one prompt, ids in hex digits."""

    version: Version
    prompt_id: bytes
    tasks: frozenset[str]
    """The prompt's tasks that the version reads."""
    held: frozenset[str]
    """Completions and ratings in the imports that the version was made from."""
    ratings: Mapping[tuple[str, str], str]
    """The outcome of each rating that did not count for an entry of the recipe: by its id and the entry's name."""
    placements: tuple[Placement, ...]
    endings: tuple[Ending, ...]

    def of_prompt(self) -> InVersion:
        """Of the prompt itself: all its rows, and every ending of its tasks, its pairs and itself."""
        told = [e for e in self.endings if e.kind in (RowKind.TASK, RowKind.PROMPT, RowKind.PAIR)]
        return self._told(self.placements, told, dropped=True, planned=bool(self.tasks))

    def of_completion(self, key: CompletionKey, score_ids: Collection[str]) -> InVersion:
        """Of one completion: its rows, its own ending, those of its labels and pairs, and its prompt's."""
        names = {key.id, *score_ids}
        placements = [p for p in self.placements if key.id in p.completion_ids]
        about = [e for e in self.endings if e.id in names or key.id in e.completion_ids]
        prompt = [e for e in self.endings if e.kind == RowKind.PROMPT]
        dropped = any(e.kind == RowKind.COMPLETION for e in about)
        return self._told(placements, [*about, *prompt], dropped, planned=self._plans(key))

    def of_pair(self, pair_id: str, sides: Collection[CompletionKey]) -> InVersion:
        """Of one pair: its row, or the endings of the pair and of its sides; a row of the pair turned round is told."""
        told = self._of_sides([e for e in self.endings if e.id == pair_id], sides)
        turned = bool(told.placements) and all(p.pair_id != pair_id for p in told.placements)
        return replace(told, verdict=Verdict.NOT_SELECTED) if turned else told

    def of_compared(self, sides: Collection[CompletionKey]) -> InVersion:
        """Of the pair of two compared completions, whichever is chosen."""
        ids = {key.id for key in sides}
        return self._of_sides([e for e in self.endings if e.completion_ids == ids], sides)

    def _of_sides(self, of_pair: Iterable[Ending], sides: Collection[CompletionKey]) -> InVersion:
        ids = {key.id for key in sides}
        placements = [p for p in self.placements if p.pair_id and ids == p.completion_ids]
        endings = [*of_pair, *(e for e in self.endings if e.id in ids)]
        planned = self.version.content["kind"] == PAIRS and all(self._plans(key) for key in sides)
        return self._told(placements, endings, dropped=bool(endings), planned=planned)

    def of_rating(self, rating_id: str, kind: RowKind, annotator: str, aspect: str) -> list[Use]:
        """Of one imported score or comparison: a use for each entry of the recipe that asks for it."""
        if rating_id not in self.held:
            return []
        compares = self._recipe["select"]["kind"] == "comparisons"
        asking = [
            entry["aspects"][0]
            for entry in self._recipe["score"]
            if entry["kind"] == "imported"
            and fnmatchcase(annotator, entry["scorer"])
            and entry["aspect"] == aspect
            and (compares or entry["against"] is not None) == (kind == RowKind.COMPARISON)
        ]
        return [Use(self.version.label, name, self.ratings.get((rating_id, name), RATED)) for name in asking]

    def _told(
        self, placements: Iterable[Placement], endings: Iterable[Ending], dropped: bool, planned: bool
    ) -> InVersion:
        placements, endings = tuple(placements), tuple(endings)
        if placements:
            verdict = Verdict.SELECTED
        elif not planned:
            verdict = Verdict.NOT_PLANNED
        else:
            verdict = Verdict.DROPPED if dropped else Verdict.NOT_SELECTED
        return InVersion(self.version.label, verdict, placements, endings, self._recipe["select"])

    def _plans(self, key: CompletionKey) -> bool:
        """Whether the version asked for this completion: its imports hold it and are asked for completions, or its
        prompt was kept and a block draws so from these weights for it.
        """
        if key.policy_id.startswith(IMPORTED_POLICY):
            return self._recipe["completions"] is not None and key.id in self.held
        kept = self.tasks - {e.id for e in self.endings if e.kind == RowKind.TASK}
        sampler_ids = cast("dict[str, list[int]]", self.version.provenance["config_ids"])["samplers"]
        blocks = zip(self._recipe["sample"], sampler_ids, strict=True)
        return bool(kept) and any(
            (block["policy_id"], sampler_id, 0) == (key.policy_id, key.sampler_id, key.policy_version)
            and key.sample_index < block["n"]
            and in_share(pl.Series([self.prompt_id]), block["prompt_share"])[0]
            for block, sampler_id in blocks
        )

    @property
    def _recipe(self) -> dict[str, Any]:
        return cast("dict[str, Any]", self.version.content["recipe"])


def prompt_fates(facts: FactStore, versions: Iterable[Version], ids: PromptIds) -> list[PromptFate]:
    """What each version says about a prompt."""
    known: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
    fates: list[PromptFate] = []
    for version in versions:
        imports = version.provenance["import_ids"]
        for imported in imports:
            known[imported] = known[imported] if imported in known else _held_by(facts, imported, ids)
        # Of a prompt that several imports bring, a build reads the tasks of the first.
        tasks = next((own for own, _ in map(known.__getitem__, imports) if own), frozenset[str]())
        held = frozenset[str]().union(*(more for _, more in map(known.__getitem__, imports)))
        rated = pl.col("id").is_in(ids.ratings.implode())
        rows = version.outcomes().filter((pl.col("prompt_id") == ids.prompt) | rated).collect()
        placements = _placements(version, ids.prompt)
        ratings, endings = _ratings(version, rows), _endings(version, rows, ids.completions)
        fates.append(PromptFate(version, ids.prompt, tasks, held, ratings, placements, endings))
    return fates


def pair_sides(completions: pl.Series, pair_ids: pl.Series) -> dict[bytes, tuple[bytes, bytes]]:
    """(chosen id, rejected id) of those pairs whose sides are both among the completions.

    A pair's id is a hash of its sides, so every ordered pair of the prompt's completions is tried.
    """
    first, second = (index.ravel() for index in np.indices((len(completions), len(completions))))
    words = id_words(completions.to_arrow())
    tried = pl.DataFrame({"id": pl.from_arrow(row_ids(words[first], words[second])), "first": first, "second": second})
    found = tried.filter(pl.col("id").is_in(pair_ids.implode()))
    return {pair: (completions[a], completions[b]) for pair, a, b in found.iter_rows()}


def _held_by(facts: FactStore, import_id: str, ids: PromptIds) -> tuple[frozenset[str], frozenset[str]]:
    """The tasks, and the completions and ratings, of the prompt that an import holds."""
    row = facts.read(IMPORTS, _HELD, {"id": bytes.fromhex(import_id)})
    lists = [row[name].explode(empty_as_null=False).drop_nulls() for name in _HELD]
    tasks = _in_both(lists[0], ids.tasks)
    return tasks, _in_both(lists[1], ids.completions) | _in_both(pl.concat(lists[2:]), ids.ratings)


def _in_both(many: pl.Series, few: pl.Series) -> frozenset[str]:
    return frozenset(found.hex() for found in many.filter(many.is_in(few.implode())))


def _placements(version: Version, prompt_id: bytes) -> tuple[Placement, ...]:
    columns = _PAIR if version.content["kind"] == PAIRS else _SUBSET
    rows = version.frame().filter(pl.col("prompt_id") == prompt_id).select(columns).collect()
    return tuple(Placement(**_in_hex(row)) for row in rows.iter_rows(named=True))


def _ratings(version: Version, rows: pl.DataFrame) -> dict[tuple[str, str], str]:
    rated = rows.filter(pl.col("stage").is_in(rating_stages(version)), pl.col("id").is_not_null())
    return {(i.hex(), entry): outcome for i, entry, outcome in rated.select("id", "detail", "outcome").iter_rows()}


def _endings(version: Version, rows: pl.DataFrame, completions: pl.Series) -> tuple[Ending, ...]:
    kinds = kinds_of_stages(version)
    pairs = rows.filter(pl.col("stage").is_in([s for s, kind in kinds.items() if kind == RowKind.PAIR]))["id"]
    sides = pair_sides(completions, pairs) if len(pairs) else {}
    told = rows.filter(~pl.col("stage").is_in(rating_stages(version))).select("stage", "outcome", "id", "detail")
    return tuple(_ending(row, kinds[row["stage"]], sides.get(row["id"])) for row in told.iter_rows(named=True))


def _ending(row: Mapping[str, bytes | str | None], kind: RowKind, sides: tuple[bytes, bytes] | None) -> Ending:
    chosen, rejected = sides or (None, None)
    return Ending(kind=kind, **_in_hex({**row, "chosen_id": chosen, "rejected_id": rejected}))


def _in_hex(row: Mapping[str, object]) -> dict[str, Any]:
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in row.items()}
