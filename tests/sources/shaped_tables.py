"""Small tables in the shape that linking reads: rows are dicts, what they leave out is null."""

from collections.abc import Mapping, Sequence

import polars as pl

from prefkit.sources.linking.whole import Known, Linked, linked
from prefkit.sources.shaped import COMPARISONS, COMPLETIONS, PROMPTS, REFUSED, SCORES, Shaped

Row = Mapping[str, object]


def table(
    name: str = "t.jsonl",
    *,
    keyed: bool = True,
    prompts: Sequence[Row] = (),
    completions: Sequence[Row] = (),
    scores: Sequence[Row] = (),
    comparisons: Sequence[Row] = (),
    refused: Sequence[Row] = (),
) -> Shaped:
    """A table; rows of a kind are numbered from 1 unless they say otherwise."""
    return Shaped(
        name,
        keyed,
        _frame(prompts, PROMPTS),
        _frame(completions, COMPLETIONS),
        _frame(scores, SCORES),
        _frame(comparisons, COMPARISONS),
        _frame(refused, REFUSED),
    )


def _frame(rows: Sequence[Row], schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    full = [{"row": number, **row} for number, row in enumerate(rows, 1)]
    return pl.DataFrame([{name: row.get(name) for name in schema} for row in full], schema=schema)


def said(text: str | None, key: str | None = None, **more: object) -> Row:
    """A prompt in plain words."""
    return {"kind": None if text is None else "string", "text": text, "key": key, **more}


def answer(prompt: str, text: str | None, model: str | None = None, **more: object) -> Row:
    """A completion in plain words."""
    return {"prompt": prompt, "kind": None if text is None else "string", "text": text, "model": model, **more}


def of(key: str | None = None, *, slot: str | None = None, seen: str | None = None) -> Row:
    """A reference to a completion."""
    return {"slot": slot, "key": key, "seen": seen}


def score(prompt: str, completion: Row, value: float | None, scorer: str = "ann", **more: object) -> Row:
    """A score."""
    return {"prompt": prompt, "completion": completion, "score": value, "scorer": scorer, **more}


def compared(prompt: str, a: Row, b: Row, value: float | None, scorer: str = "ann", **more: object) -> Row:
    """A comparison."""
    return {"prompt": prompt, "a": a, "b": b, "preference": value, "scorer": scorer, **more}


def link(*tables: Shaped, source: str = "src", known: Known | None = None) -> Linked:
    """The tables as one source."""
    return linked(tables, source, known or Known())


def ends(found: Linked, what: str) -> list[str]:
    """The outcomes of one kind of record, in the order of the files."""
    return found.outcomes.filter(pl.col("what") == what)["outcome"].to_list()


def texts(found: Linked) -> dict[bytes, str]:
    """Completion id to its plain text."""
    return dict(found.completions.select("id", "text").iter_rows())
