"""What became of one prompt, and of its completions and pairs, in each version.

Rows and outcomes carry the prompt id, so of every version only this prompt's are read. What a version asked for comes
from its manifest: the import it was made from, and policy, sampler and `n` of each `sample` block. A row that was asked
for and is neither in the version nor among its outcomes was not selected.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import polars as pl

from prefkit.identity import id_words, row_ids
from prefkit.pipeline.publish import PAIRS
from prefkit.pipeline.story import CompletionKey, Ending, InVersion, Placement, RowKind, Verdict
from prefkit.records import IMPORTS
from prefkit.store.facts import FactStore
from prefkit.store.versions import Version

PAIR_STAGES = ("select rows", "pair hygiene")
_KINDS = {
    "prompt hygiene": RowKind.TASK,
    "sample": RowKind.COMPLETION,
    "completion hygiene": RowKind.COMPLETION,
    "score": RowKind.SCORE,
    "select": RowKind.PROMPT,
    "pair hygiene": RowKind.PAIR,
}
"""What each stage drops; `select rows` drops pairs or completions, whichever the version is made of."""
_PAIR = ("pair_id", "chosen_id", "rejected_id", "chosen_score", "rejected_score", "score_margin", "split")
_SUBSET = ("completion_id", "score", "label", "weight", "split")


@dataclass(frozen=True, slots=True)
class PromptFate:
    """What one version says about one prompt, ids in hex digits."""

    version: Version
    tasks: frozenset[str]
    """The prompt's tasks in the import that the version was made from."""
    placements: tuple[Placement, ...]
    endings: tuple[Ending, ...]

    def of_prompt(self) -> InVersion:
        """Of the prompt itself: all its rows, and every ending of its tasks, its pairs and itself."""
        told = [e for e in self.endings if e.kind in (RowKind.TASK, RowKind.PROMPT, RowKind.PAIR)]
        return self._told(self.placements, told, dropped=True, planned=bool(self.tasks))

    def of_completion(self, key: CompletionKey, score_ids: Collection[str]) -> InVersion:
        """Of one completion: its rows, its own ending, those of its scores and pairs, and its prompt's."""
        names = {key.id, *score_ids}
        placements = [p for p in self.placements if key.id in p.completion_ids]
        about = [e for e in self.endings if e.id in names or key.id in e.completion_ids]
        prompt = [e for e in self.endings if e.kind == RowKind.PROMPT]
        dropped = any(e.kind == RowKind.COMPLETION for e in about)
        return self._told(placements, [*about, *prompt], dropped, planned=self._plans(key))

    def of_pair(self, pair_id: str, sides: Collection[CompletionKey]) -> InVersion:
        """Of one pair: its row, or the endings of the pair and of its sides; a row of the pair turned round is told."""
        ids = {key.id for key in sides}
        placements = [p for p in self.placements if p.pair_id and ids == p.completion_ids]
        endings = [e for e in self.endings if e.id == pair_id or e.id in ids]
        planned = self.version.content["kind"] == PAIRS and all(self._plans(key) for key in sides)
        told = self._told(placements, endings, dropped=bool(endings), planned=planned)
        turned = bool(placements) and all(p.pair_id != pair_id for p in placements)
        return replace(told, verdict=Verdict.NOT_SELECTED) if turned else told

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
        """Whether the version asked for this draw: its prompt was kept, and a block draws so from these weights."""
        kept = self.tasks - {e.id for e in self.endings if e.kind == RowKind.TASK}
        sampler_ids = cast("dict[str, list[int]]", self.version.provenance["config_ids"])["samplers"]
        blocks = zip(self._recipe["sample"], sampler_ids, strict=True)
        return bool(kept) and any(
            (block["policy_id"], sampler_id, 0) == (key.policy_id, key.sampler_id, key.policy_version)
            and key.sample_index < block["n"]
            for block, sampler_id in blocks
        )

    @property
    def _recipe(self) -> dict[str, Any]:
        return cast("dict[str, Any]", self.version.content["recipe"])


def prompt_fates(
    facts: FactStore, versions: Iterable[Version], prompt_id: bytes, tasks: pl.Series, completions: pl.Series
) -> list[PromptFate]:
    """What each version says about a prompt, of which these are the ids of all tasks and all completions."""
    held: dict[str, frozenset[str]] = {}
    fates: list[PromptFate] = []
    for version in versions:
        imported = str(version.provenance["import_id"])
        held[imported] = held[imported] if imported in held else _tasks_of(facts, imported, tasks)
        endings = _endings(version, prompt_id, completions)
        fates.append(PromptFate(version, held[imported], _placements(version, prompt_id), endings))
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


def _tasks_of(facts: FactStore, import_id: str, tasks: pl.Series) -> frozenset[str]:
    held = facts.read(IMPORTS, ["task_ids"], {"id": bytes.fromhex(import_id)})["task_ids"].explode()
    return frozenset(task.hex() for task in tasks.filter(tasks.is_in(held.implode())))


def _placements(version: Version, prompt_id: bytes) -> tuple[Placement, ...]:
    columns = _PAIR if version.content["kind"] == PAIRS else _SUBSET
    rows = version.frame().filter(pl.col("prompt_id") == prompt_id).select(columns).collect()
    return tuple(Placement(**_in_hex(row)) for row in rows.iter_rows(named=True))


def _endings(version: Version, prompt_id: bytes, completions: pl.Series) -> tuple[Ending, ...]:
    kinds = {**_KINDS, "select rows": RowKind.PAIR if version.content["kind"] == PAIRS else RowKind.COMPLETION}
    rows = version.outcomes().filter(pl.col("prompt_id") == prompt_id).collect()
    pairs = rows.filter(pl.col("stage").is_in([s for s, kind in kinds.items() if kind == RowKind.PAIR]))["id"]
    sides = pair_sides(completions, pairs) if len(pairs) else {}
    told = rows.select("stage", "outcome", "id", "detail").iter_rows(named=True)
    return tuple(_ending(row, kinds[row["stage"]], sides.get(row["id"])) for row in told)


def _ending(row: Mapping[str, bytes | str | None], kind: RowKind, sides: tuple[bytes, bytes] | None) -> Ending:
    chosen, rejected = sides or (None, None)
    return Ending(kind=kind, **_in_hex({**row, "chosen_id": chosen, "rejected_id": rejected}))


def _in_hex(row: Mapping[str, object]) -> dict[str, Any]:
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in row.items()}
