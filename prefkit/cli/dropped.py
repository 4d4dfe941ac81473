"""Rows that a version dropped, with their texts gathered from the facts it was made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import polars as pl

from prefkit.cli.accounts import accounts_of
from prefkit.cli.console import harmless, say
from prefkit.cli.dropped_texts import Texts
from prefkit.cli.texts import Turn, completion_text, conversation_text, short_id, shortened
from prefkit.errors import NotFoundError
from prefkit.identity import Json
from prefkit.pipeline.stages import IMPORT_STAGES, IMPORTED_OUTCOMES
from prefkit.records import IMPORTS
from prefkit.store.versions import Version
from prefkit.store.workspace import Workspace

_STAGE_OF = {what: stage for what, (stage, _) in IMPORT_STAGES.items()}
"""Where the records of an import are booked."""


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
    """`completion`, or `chosen` and `rejected`, or `first` and `second` of a comparison."""
    raw: str | None = None
    """What a scorer or annotator said, as it stands."""

    def to_json(self) -> dict[str, Json]:
        """As plain data."""
        return {
            "stage": self.stage, "outcome": self.outcome, "id": self.id, "prompt_id": self.prompt_id,
            "detail": self.detail, "raw": self.raw, "prompt": cast(Json, self.prompt),
            **cast("dict[str, Json]", self.completions),
        }  # fmt: skip


def listed(workspace: Workspace, version: Version, outcome: str, stage: str | None, most: int) -> list[DroppedRow]:
    """At most so many rows that ended in an outcome. Raises NotFoundError when the version does not list any."""
    _require_listed(version, outcome, stage)
    wanted = version.outcomes().filter(pl.col("outcome") == outcome)
    rows = (wanted if stage is None else wanted.filter(pl.col("stage") == stage)).head(most).collect()
    refused = _refused_at_import(workspace, version, outcome, stage).head(most - rows.height)
    named = [DroppedRow(r["stage"], outcome, None, None, _place(r)) for r in refused.iter_rows(named=True)]
    return named + _with_texts(workspace, version, rows)


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
        if row.raw is not None:
            say(harmless(_indented("said", shortened(row.raw))))
        say()


def _indented(name: str, text: str) -> str:
    first, *others = text.split("\n")
    return "\n".join([f"  {name + ':':<11} {first}", *(" " * 14 + line for line in others)])


def _require_listed(version: Version, outcome: str, stage: str | None) -> None:
    accounts_of(version, stage, outcome)
    imports = [account for account in version.ledger if account.stage in _STAGE_OF.values()]
    refused = {o for account in imports for o in account.outcomes} - set(IMPORTED_OUTCOMES)
    known = sorted(refused | set(version.outcomes().select("outcome").unique().collect()["outcome"]))
    if outcome not in known:
        raise NotFoundError(
            f"outcome {outcome!r} of {version.label} is counted but its rows are not listed"
            + (f", expected one of {', '.join(known)}" if known else ": nothing was dropped")
        )


def _refused_at_import(workspace: Workspace, version: Version, outcome: str, stage: str | None) -> pl.DataFrame:
    """`stage`, `table`, `row` and `detail` of every record of the version's imports that ended in an outcome."""
    order = pl.DataFrame({"id": [bytes.fromhex(i) for i in version.provenance["import_ids"]]})
    rows = workspace.facts.read(IMPORTS, ["id", "dropped"], {"id": order["id"].to_list()}, version.pins[IMPORTS.name])
    listed = order.join(rows, on="id", how="left", maintain_order="left")["dropped"].explode(empty_as_null=False)
    found = listed.drop_nulls().struct.unnest().filter(pl.col("outcome") == outcome)
    found = found.with_columns(stage=pl.col("what").replace_strict(_STAGE_OF, return_dtype=pl.String))
    return found if stage is None else found.filter(pl.col("stage") == stage)


def _place(refused: Mapping[str, object]) -> str:
    detail = f": {refused['detail']}" if refused["detail"] else ""
    return f"{Path(str(refused['table'])).name}, row {refused['row']}{detail}"


def _with_texts(workspace: Workspace, version: Version, rows: pl.DataFrame) -> list[DroppedRow]:
    texts = Texts.of(workspace.facts, version, rows)
    return [
        DroppedRow(
            r["stage"],
            r["outcome"],
            r["id"].hex() if r["id"] else None,
            r["prompt_id"].hex() if r["prompt_id"] else None,
            r["detail"],
            texts.prompts.get(r["prompt_id"]),
            texts.completions.get(r["id"], {}),
            texts.raw.get(r["id"]),
        )
        for r in rows.iter_rows(named=True)
    ]
