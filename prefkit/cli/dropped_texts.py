"""The texts of dropped rows, from the facts that their version was made from."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from prefkit.cli.texts import Turn
from prefkit.pipeline.tracing.fates import pair_sides
from prefkit.pipeline.tracing.stage_kinds import kinds_of_stages, rating_stages
from prefkit.pipeline.tracing.verdicts import RowKind
from prefkit.records import COMPARISONS, COMPLETIONS, PROMPTS, SCORES
from prefkit.store.facts import FactStore, settled
from prefkit.store.versions import Version

_STATUS = ("id", "batch_id", "transient", "attempt")
_SIDES = {
    SCORES.name: {"completion_id": "completion"},
    COMPARISONS.name: {"completion_a": "first", "completion_b": "second"},
}
"""What the completions of a rating are called."""


@dataclass(frozen=True, slots=True)
class Texts:
    """What there is to read, by id of the row, or of the prompt."""

    prompts: Mapping[bytes, list[Turn]]
    completions: Mapping[bytes, dict[str, list[Turn]]]
    raw: Mapping[bytes, str]
    """What was said by those who rated."""

    @classmethod
    def of(cls, facts: FactStore, version: Version, rows: pl.DataFrame) -> "Texts":
        """The texts of a version's outcomes."""
        sides, raw = _named_sides(facts, version, rows)
        asked = sorted({completion for named in sides.values() for completion in named.values()})
        columns = [*_STATUS, "completion"]
        found = settled(facts.read(COMPLETIONS, columns, {"id": asked}, version.pins[COMPLETIONS.name]))
        texts = {i: messages for i, messages in found.select("id", "completion").iter_rows() if messages}
        completions = {
            row: {name: texts[completion] for name, completion in named.items() if completion in texts}
            for row, named in sides.items()
        }
        asked = rows["prompt_id"].drop_nulls().unique().to_list()
        prompts = facts.read(PROMPTS, ["id", "messages"], {"id": asked}, version.pins[PROMPTS.name])
        return cls(dict(prompts.iter_rows()), completions, raw)


def _named_sides(
    facts: FactStore, version: Version, rows: pl.DataFrame
) -> tuple[dict[bytes, dict[str, bytes]], dict[bytes, str]]:
    """The completions of each row, each with its name in the row; and what was said in the row."""
    kinds = kinds_of_stages(version)
    of_kind = {kind: rows.filter(pl.col("stage").is_in([s for s in kinds if kinds[s] == kind])) for kind in RowKind}
    sides = {i: {"completion": i} for i in of_kind[RowKind.COMPLETION]["id"].drop_nulls()}
    sides |= _pairs(facts, version, of_kind[RowKind.PAIR])
    rated = pl.concat([of_kind[RowKind.SCORE], rows.filter(pl.col("stage").is_in(rating_stages(version)))])
    raw: dict[bytes, str] = {}
    for table in (SCORES, COMPARISONS):
        names = _SIDES[table.name]
        columns = [*_STATUS, "raw", *names]
        found = facts.read(table, columns, {"id": rated["id"].drop_nulls().to_list()}, version.pins[table.name])
        found = settled(found)
        sides |= {
            i: dict(zip(names.values(), completions, strict=True))
            for i, *completions in found.select("id", *names).iter_rows()
        }
        raw |= dict(found.select("id", "raw").drop_nulls().iter_rows())
    return sides, raw


def _pairs(facts: FactStore, version: Version, rows: pl.DataFrame) -> dict[bytes, dict[str, bytes]]:
    """A pair's id is made of its completions' ids, so it is found among the pairs of its prompt."""
    of_prompts = {"prompt_id": rows["prompt_id"].unique().to_list()}
    completions = facts.read(COMPLETIONS, ["id", "prompt_id"], of_prompts, version.pins[COMPLETIONS.name]).unique()
    found: dict[bytes, tuple[bytes, bytes]] = {}
    for (prompt_id,), pairs in rows.group_by("prompt_id"):
        of_prompt = completions.filter(pl.col("prompt_id") == prompt_id)["id"]
        found |= pair_sides(of_prompt, pairs["id"])
    return {pair: {"chosen": chosen, "rejected": rejected} for pair, (chosen, rejected) in found.items()}
