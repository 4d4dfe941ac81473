"""Rows that a version dropped, with their texts gathered from the facts it was made from."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import polars as pl

from prefkit.cli.accounts import accounts_of
from prefkit.cli.console import harmless, say
from prefkit.cli.texts import Turn, completion_text, conversation_text, short_id
from prefkit.errors import NotFoundError
from prefkit.identity import Json, id_words, row_ids
from prefkit.records import COMPLETIONS, IMPORTS, PROMPTS, SCORES
from prefkit.sources.prompts import ImportOutcome
from prefkit.store.facts import Where, settled
from prefkit.store.versions import Version
from prefkit.store.workspace import Workspace

OF_COMPLETIONS = ("sample", "completion hygiene", "select rows")
OF_LABELS = ("score",)
OF_PAIRS = ("select rows", "pair hygiene")
_STATUS = ("id", "batch_id", "transient", "attempt")


@dataclass(frozen=True, slots=True)
class DroppedRow:
    """A row that ended before the version; ids in hex, texts as far as there are any."""

    stage: str
    outcome: str
    id: str | None
    prompt_id: str | None
    detail: str | None
    prompt: list[Turn] | None = None
    completions: dict[str, list[Turn]] = field(default_factory=dict[str, list[Turn]])
    """`completion`, or `chosen` and `rejected`."""

    def to_json(self) -> dict[str, Json]:
        """As plain data."""
        return {
            "stage": self.stage, "outcome": self.outcome, "id": self.id, "prompt_id": self.prompt_id,
            "detail": self.detail, "prompt": cast(Json, self.prompt), **cast("dict[str, Json]", self.completions),
        }  # fmt: skip


def listed(workspace: Workspace, version: Version, outcome: str, stage: str | None, most: int) -> list[DroppedRow]:
    """At most so many rows that ended in an outcome. Raises NotFoundError when the version does not list any."""
    _require_listed(version, outcome, stage)
    wanted = version.outcomes().filter(pl.col("outcome") == outcome)
    rows = (wanted if stage is None else wanted.filter(pl.col("stage") == stage)).head(most).collect()
    imported = _refused_at_import(workspace, version, outcome, most - rows.height) if stage in (None, "import") else []
    return imported + _with_texts(workspace, version, rows)


def show_dropped(rows: Sequence[DroppedRow]) -> None:
    """Writes the rows to read."""
    for row in rows:
        about = [f"{row.stage}: {row.outcome}"]
        about += [f"id {short_id(row.id)}"] if row.id else []
        about += [f"prompt {short_id(row.prompt_id)}"] if row.prompt_id else []
        about += [row.detail] if row.detail else []
        say(harmless(" | ".join(about)))
        if row.prompt:
            say(harmless(_indented("prompt", conversation_text(row.prompt))))
        for side, messages in row.completions.items():
            say(harmless(_indented(side, completion_text(messages))))
        say()


def _indented(name: str, text: str) -> str:
    first, *others = text.split("\n")
    return "\n".join([f"  {name + ':':<11} {first}", *(" " * 14 + line for line in others)])


def _require_listed(version: Version, outcome: str, stage: str | None) -> None:
    accounts_of(version, stage, outcome)
    refused = {o for a in accounts_of(version, "import") for o in a.outcomes} - {ImportOutcome.IMPORTED.value}
    known = sorted(refused | set(version.outcomes().select("outcome").unique().collect()["outcome"]))
    if outcome not in known:
        raise NotFoundError(
            f"outcome {outcome!r} of {version.label} is counted but its rows are not listed"
            + (f", expected one of {', '.join(known)}" if known else ": nothing was dropped")
        )


def _refused_at_import(workspace: Workspace, version: Version, outcome: str, most: int) -> list[DroppedRow]:
    key = {"id": bytes.fromhex(str(version.provenance["import_id"]))}
    rows = workspace.facts.read(IMPORTS, ["dropped"], key, version.pins[IMPORTS.name])
    found = (
        rows.explode("dropped").drop_nulls().unnest("dropped").filter(pl.col("outcome") == outcome).head(max(most, 0))
    )
    return [
        DroppedRow("import", outcome, None, None, f"row {r['row']}" + (f": {r['detail']}" if r["detail"] else ""))
        for r in found.iter_rows(named=True)
    ]


def _with_texts(workspace: Workspace, version: Version, rows: pl.DataFrame) -> list[DroppedRow]:
    ids = rows["prompt_id"].drop_nulls().unique().to_list()
    prompts = _messages(workspace.facts.read(PROMPTS, ["id", "messages"], {"id": ids}, version.pins[PROMPTS.name]))
    pairs = version.content["kind"] == "pairs"
    texts = _completions(workspace, version, rows.filter(_in(OF_COMPLETIONS[:2] if pairs else OF_COMPLETIONS)))
    texts |= _labelled(workspace, version, rows.filter(_in(OF_LABELS)))
    texts |= _pairs(workspace, version, rows.filter(_in(OF_PAIRS if pairs else ())))
    return [
        DroppedRow(
            r["stage"],
            r["outcome"],
            r["id"].hex() if r["id"] else None,
            r["prompt_id"].hex() if r["prompt_id"] else None,
            r["detail"],
            prompts.get(r["prompt_id"]),
            texts.get(r["id"], {}),
        )
        for r in rows.iter_rows(named=True)
    ]


def _in(stages: Sequence[str]) -> pl.Expr:
    return pl.col("stage").is_in(list(stages))


def _messages(rows: pl.DataFrame) -> dict[bytes, list[Turn]]:
    return dict(rows.select("id", "messages").iter_rows())


def _completions(workspace: Workspace, version: Version, rows: pl.DataFrame) -> dict[bytes, dict[str, list[Turn]]]:
    found = _read_completions(workspace, version, {"id": rows["id"].drop_nulls().to_list()})
    return {i: {"completion": messages} for i, messages in found.iter_rows() if messages}


def _labelled(workspace: Workspace, version: Version, rows: pl.DataFrame) -> dict[bytes, dict[str, list[Turn]]]:
    ids = rows["id"].drop_nulls().to_list()
    labels = workspace.facts.read(SCORES, ["id", "completion_id"], {"id": ids}, version.pins[SCORES.name]).unique("id")
    texts = _read_completions(workspace, version, {"id": labels["completion_id"].to_list()})
    both = labels.join(texts, left_on="completion_id", right_on="id").select("id", "completion")
    return {i: {"completion": messages} for i, messages in both.iter_rows()}


def _pairs(workspace: Workspace, version: Version, rows: pl.DataFrame) -> dict[bytes, dict[str, list[Turn]]]:
    """A pair's id is made of its completions' ids, so it is found among the pairs of its prompt."""
    texts = _read_completions(workspace, version, {"prompt_id": rows["prompt_id"].unique().to_list()}, "prompt_id")
    both = texts.join(texts, on="prompt_id", suffix="_rejected").filter(pl.col("id") != pl.col("id_rejected"))
    words = [id_words(both[column].to_arrow()) for column in ("id", "id_rejected")]
    both = both.with_columns(pair_id=pl.Series(pl.from_arrow(row_ids(*words))))
    both = both.join(rows.select(pair_id="id"), on="pair_id", how="semi")
    return {
        i: {"chosen": chosen, "rejected": rejected}
        for i, chosen, rejected in both.select("pair_id", "completion", "completion_rejected").iter_rows()
    }


def _read_completions(workspace: Workspace, version: Version, where: Where, *more: str) -> pl.DataFrame:
    rows = workspace.facts.read(COMPLETIONS, [*_STATUS, "completion", *more], where, version.pins[COMPLETIONS.name])
    return settled(rows).select("id", "completion", *more)
