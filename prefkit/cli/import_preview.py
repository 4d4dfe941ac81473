"""What an import would bring, to read: a few records of each kind as they would be stored, and all that is refused."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import polars as pl

from prefkit.cli.console import count, counted, harmless, number, say, say_json
from prefkit.cli.texts import Turn, conversation_text, said, shortened
from prefkit.identity import Json
from prefkit.records import COMPLETIONS, IMPORTED_POLICY, PROMPTS
from prefkit.sources.linking.messages import completion_column
from prefkit.sources.linking.whole import Linked
from prefkit.sources.outcomes import ImportOutcome
from prefkit.store.facts import FactStore, settled

_IMPORTED = [ImportOutcome.IMPORTED, ImportOutcome.DRAW]
_LONGEST = 500
"""Characters of a text that are shown."""


class _Refusal(NamedTuple):
    """Records that end in one way, and a few of them: `table`, `row` and `detail`."""

    what: str
    outcome: str
    records: int
    rows: list[dict[str, Json]]


class _Completion(NamedTuple):
    """A completion with whose it is."""

    prompt_id: bytes
    model: str
    messages: list[Turn]


def listed(outcomes: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A line for every kind of record: how many there are, and how many of them ended how."""
    return [
        f"  {what:<12}{count(sum(ends.values()))}: {', '.join(f'{count(n)} {o}' for o, n in ends.items())}"
        for what, ends in outcomes.items()
    ]


def show_preview(found: Linked, most: int, facts: FactStore | None, json: bool) -> None:
    """Writes at most so many records of each kind, and every kind of refusal with as many examples.

    `facts` hold the prompts and completions that the import takes from another source.
    """
    records = _Preview(found, most, facts).records()
    refused = _refusals(found.outcomes, most)
    if json:
        counts = cast(Json, found.counts())
        told: list[Json] = [refusal._asdict() for refusal in refused]
        say_json({"source": found.source, "outcomes": counts, **cast("dict[str, Json]", records), "refused": told})
        return
    say(f"{found.source}; nothing was imported")
    for line in listed(found.counts()):
        say(line)
    for what, rows in records.items():
        for row in rows:
            say(f"\n{what.removesuffix('s')}")
            for name, value in row.items():
                say(harmless(_field(name, value)))
    for refusal in refused:
        say(f"\n{counted(refusal.records, refusal.what.removesuffix('s'))} {refusal.outcome}")
        for row in refusal.rows:
            say(harmless(f"  row {row['row']} of {row['table']}" + (f": {row['detail']}" if row["detail"] else "")))


class _Preview:
    """The records of an import with the texts they are about."""

    def __init__(self, found: Linked, most: int, facts: FactStore | None) -> None:
        self._tasks, self._scores, self._comparisons = (
            frame.head(most) for frame in (found.tasks, found.scores, found.comparisons)
        )
        self._scorers = dict(found.scorers.select("scorer_id", "name").iter_rows())
        shown = found.completions.head(most)
        asked = [shown["id"], self._scores["completion_id"], self._comparisons["completion_a"]]
        ids = pl.concat([i.rename("id") for i in (*asked, self._comparisons["completion_b"])]).unique()
        self._shown = shown["id"].to_list()
        self._completions = _completions(found, ids, facts)
        of_tasks = set(self._tasks["prompt_id"].to_list())
        self._prompts = _prompts(found, [*of_tasks, *(c.prompt_id for c in self._completions.values())], facts)

    def records(self) -> dict[str, list[dict[str, Json]]]:
        """Kind to records, with what is null left out."""
        kinds = {
            "prompts": [self._task(row) for row in self._tasks.iter_rows(named=True)],
            "completions": [self._completion(i) for i in self._shown],
            "scores": [self._score(row) for row in self._scores.iter_rows(named=True)],
            "comparisons": [self._comparison(row) for row in self._comparisons.iter_rows(named=True)],
        }
        return {k: [{n: v for n, v in r.items() if v is not None} for r in rows] for k, rows in kinds.items() if rows}

    def _task(self, row: Mapping[str, object]) -> dict[str, Json]:
        names = ("answer", "source", "split", "metadata")
        beside = {name: cast(Json, row[name]) for name in names}
        return {"prompt": cast(Json, self._prompts[cast(bytes, row["prompt_id"])]), **beside}

    def _completion(self, completion_id: object, name: str = "completion") -> dict[str, Json]:
        found = self._completions[cast(bytes, completion_id)]
        prompt = {"prompt": cast(Json, self._prompts.get(found.prompt_id))}
        return {**prompt, **self._side(completion_id, name)}

    def _side(self, completion_id: object, name: str) -> dict[str, Json]:
        found = self._completions[cast(bytes, completion_id)]
        model = "model" if name == "completion" else f"model_{name}"
        return {model: found.model, name: cast(Json, found.messages)}

    def _score(self, row: Mapping[str, object]) -> dict[str, Json]:
        return {**self._completion(row["completion_id"]), **self._said(row, "score")}

    def _comparison(self, row: Mapping[str, object]) -> dict[str, Json]:
        sides = {**self._completion(row["completion_a"], "a"), **self._side(row["completion_b"], "b")}
        return {**sides, **self._said(row, "preference"), "order": cast(Json, row["order"])}

    def _said(self, row: Mapping[str, object], value: str) -> dict[str, Json]:
        told: dict[str, Json] = {"scorer": self._scorers[cast(int, row["scorer_id"])]}
        return told | {name: cast(Json, row[name]) for name in ("aspect", "repeat", value, "failure", "rationale")}


def _completions(found: Linked, ids: pl.Series, facts: FactStore | None) -> dict[bytes, _Completion]:
    """The completions with these ids, of the import itself or of those it refers to."""
    own = found.completions.filter(pl.col("id").is_in(ids.implode()))
    messages = completion_column(own.select("kind", "text")).to_pylist()
    keys = own.select("id", "prompt_id", "policy_id").rows()
    texts = {i: _Completion(p, _model(policy), m) for (i, p, policy), m in zip(keys, messages, strict=True)}
    elsewhere = [i for i in ids.to_list() if i not in texts]
    if facts and elsewhere:
        columns = ["id", "batch_id", "prompt_id", "policy_id", "completion"]
        rows = settled(facts.read(COMPLETIONS, columns, {"id": elsewhere})).select("id", *columns[2:])
        texts |= {i: _Completion(p, _model(policy), m) for i, p, policy, m in rows.iter_rows()}
    return texts


def _prompts(found: Linked, ids: Sequence[bytes], facts: FactStore | None) -> dict[bytes, list[Turn]]:
    own = found.prompts.filter(pl.col("id").is_in(list(ids)))
    texts: dict[bytes, list[Turn]] = dict(own.select("id", "messages").iter_rows())
    elsewhere = [i for i in set(ids) if i not in texts]
    if facts and elsewhere:
        texts |= dict(facts.read(PROMPTS, ["id", "messages"], {"id": elsewhere}).iter_rows())
    return texts


def _model(policy_id: str) -> str:
    return policy_id.removeprefix(IMPORTED_POLICY)


def _refusals(outcomes: pl.DataFrame, most: int) -> list[_Refusal]:
    refused = outcomes.filter(~pl.col("outcome").is_in(_IMPORTED))
    kinds = refused.group_by("what", "outcome", maintain_order=True).agg(
        pl.len().alias("count"), pl.struct("table", "row", "detail").head(most).alias("rows")
    )
    return [_Refusal(*row) for row in kinds.iter_rows()]


def _field(name: str, value: Json) -> str:
    if isinstance(value, list):
        turns = cast("list[Turn]", value)
        value = conversation_text(turns) if name == "prompt" else said(turns)
    text = shortened(number(value) if isinstance(value, float) else str(value), _LONGEST)
    first, *others = text.split("\n")
    return "\n".join([f"  {name + ':':<13}{first}", *(" " * 15 + line for line in others)])
