"""Prompts that say the same as others, and rows that are no prompts."""

from collections.abc import Iterator

import polars as pl

from prefkit.pipeline.doctor.examined import Examined
from prefkit.pipeline.doctor.findings import Finding, Severity, of, such_as
from prefkit.pipeline.doctor.folding import folded
from prefkit.pipeline.prompts import CONFLICT, DUPLICATE
from prefkit.sources.outcomes import ImportOutcome


def duplicates(seen: Examined) -> Iterator[Finding]:
    """Rows whose prompt an earlier row has, character for character: a build keeps one of each."""
    again = seen.dropped_rows.get(ImportOutcome.DUPLICATE, 0)
    repeated = seen.tasks.filter(pl.col("outcome") == DUPLICATE)
    if rows := again + repeated.height:
        yield Finding(
            "duplicates", Severity.NOTE, f"{_rows(rows)} an earlier row's prompt; a build keeps one of each",
            "nothing to do, unless they are there by mistake", rows,
        )  # fmt: skip


def conflicts(seen: Examined) -> Iterator[Finding]:
    """Rows of one prompt with different answers: a build drops all of them, since which is right cannot be known."""
    told = seen.tasks.filter(pl.col("outcome") == CONFLICT)
    if told.height:
        prompts = told["prompt_id"].n_unique()
        yield Finding(
            "conflicting answers", Severity.WARNING,
            f"{_count(told.height)} give {_count(prompts, 'prompt')} different answers{such_as(told['text'])}; a build "
            "drops all of them",
            "correct the answers", told.height,
        )  # fmt: skip


def near_duplicates(seen: Examined) -> Iterator[Finding]:
    """Prompts that differ from another only in case, spacing or punctuation: each counts like a prompt of its own."""
    prompts = seen.prompts.with_columns(folded=folded(seen.prompts["text"]))
    again = prompts.filter(pl.col("folded").is_duplicated() & ~pl.col("folded").is_first_distinct())
    if again.height:
        yield Finding(
            "near duplicates", Severity.WARNING,
            f"{of(again.height, prompts.height, 'prompt')} differ{'s' if again.height == 1 else ''} from another only "
            f"in case, spacing or punctuation{such_as(again['text'])}",
            "keep one of each in the file", again.height,
        )  # fmt: skip
    answers = prompts.filter(pl.col("answer").drop_nulls().n_unique().over("folded") > 1)
    if answers.height:
        yield Finding(
            "conflicting answers", Severity.WARNING,
            f"{_count(answers.height, 'prompt')} that say the same but for case, spacing or punctuation have different "
            f"answers{such_as(answers['text'])}",
            "correct the answers", answers.height,
        )  # fmt: skip


def unusable_rows(seen: Examined) -> Iterator[Finding]:
    """Rows of the prompts' source that are no prompts."""
    lost = {outcome: n for outcome, n in seen.dropped_rows.items() if outcome != ImportOutcome.DUPLICATE}
    if rows := sum(lost.values()):
        told = ", ".join(f"{n:,} {outcome}" for outcome, n in sorted(lost.items()))
        yield Finding(
            "import", Severity.WARNING, f"{_count(rows)} of the prompts' source cannot be used ({told})",
            "correct the file or prompts.map; `prefkit import --dry-run` shows them", rows,
        )  # fmt: skip


def _rows(count: int) -> str:
    return f"{_count(count)} repeat{'s' if count == 1 else ''}"


def _count(count: int, noun: str = "row") -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
