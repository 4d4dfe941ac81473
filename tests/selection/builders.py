"""Legal inputs of a selection, from a few plain lists."""

from collections.abc import Sequence

import polars as pl

from prefkit.selection.outcomes import RowOutcome, Selection

SCHEMA = {
    "prompt": pl.UInt32,
    "candidate": pl.UInt32,
    "key": pl.UInt64,
    "score": pl.Float64,
    "length": pl.UInt32,
    "source": pl.String,
}


def candidates(
    groups: Sequence[Sequence[float | None]],
    *,
    lengths: Sequence[Sequence[int]] | None = None,
    sources: Sequence[str] | None = None,
) -> pl.DataFrame:
    """One prompt per group of scores; candidates are numbered from 0 over all prompts."""
    rows: list[tuple[int, int, int, float | None, int, str]] = []
    for prompt, scores in enumerate(groups):
        for nth, score in enumerate(scores):
            length = lengths[prompt][nth] if lengths else 100
            source = sources[prompt] if sources else "web"
            rows.append((prompt, len(rows), 1_000_003 * prompt + nth, score, length, source))
    return pl.DataFrame(rows, SCHEMA, orient="row")


def pairs(selection: Selection) -> list[tuple[int, int]]:
    """(chosen, rejected) of the selected rows."""
    return list(selection.selected.select("chosen", "rejected").iter_rows())


def selected(selection: Selection) -> list[int]:
    """The selected candidates of a subset."""
    return selection.selected["candidate"].to_list()


def outcomes(selection: Selection) -> list[str]:
    """The outcome of each row."""
    return selection.rows["outcome"].to_list()


def prompt_outcomes(selection: Selection) -> list[str]:
    """The outcome of each prompt."""
    return selection.prompts["outcome"].to_list()


def outcome_counts(selection: Selection) -> dict[RowOutcome, int]:
    """How many rows ended how."""
    return {RowOutcome(name): count for name, count in selection.rows["outcome"].value_counts().iter_rows()}
