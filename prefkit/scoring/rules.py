"""Verifiers that are one rule each, worked out for all requests at once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from polars.exceptions import ComputeError

from prefkit.errors import RecipeError
from prefkit.scoring.config import ExactVerifier, LengthVerifier, RegexVerifier, ScoreConfig
from prefkit.scoring.protocol import Score, ScoreFailure, ScoreFailureKind, ScoreRequest

WHITE_SPACE = r"\s+"
WORD = r"\S+"


@dataclass(frozen=True, slots=True)
class RuleScorer:
    """Scores 1 where `holds` is true, 0 where it is false; where it is null the gold answer is missing."""

    holds: Callable[[Sequence[ScoreRequest]], pl.Series]
    batch_size: int

    @classmethod
    def open(cls, config: ScoreConfig, folder: Path) -> "RuleScorer":
        """The verifiers `exact`, `regex` and `length` of a recipe. Raises RecipeError for an invalid pattern."""
        match config:
            case ExactVerifier():
                return cls(lambda requests: equals_gold(requests, config), config.batch_size)
            case RegexVerifier():
                _refuse_invalid(config.pattern)
                return cls(lambda requests: matches(requests, config.pattern), config.batch_size)
            case LengthVerifier():
                return cls(lambda requests: has_length(requests, config), config.batch_size)
            case _:
                raise TypeError(f"{type(config).__name__} is no rule")

    @property
    def deterministic(self) -> bool:
        return True

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[Sequence[Score | ScoreFailure]]:
        for start in range(0, len(requests), self.batch_size):
            batch = requests[start : start + self.batch_size]
            yield [_row(request, holds) for request, holds in zip(batch, self.holds(batch), strict=True)]


def equals_gold(requests: Sequence[ScoreRequest], config: ExactVerifier) -> pl.Series:
    """Whether each completion equals its gold answer after the normalisation; null without a gold answer."""
    completions = [request.completion for request in requests]
    answers = [request.inputs.get("answer") for request in requests]
    if config.ignore_case:
        completions = [text.casefold() for text in completions]
        answers = [text if text is None else text.casefold() for text in answers]
    found, gold = pl.Series(completions, dtype=pl.String), pl.Series(answers, dtype=pl.String)
    if config.ignore_space:
        found, gold = _spaced_once(found), _spaced_once(gold)
    return found == gold


def matches(requests: Sequence[ScoreRequest], pattern: str) -> pl.Series:
    """Whether the pattern is found in each completion."""
    return _completions(requests).str.contains(pattern)


def has_length(requests: Sequence[ScoreRequest], config: LengthVerifier) -> pl.Series:
    """Whether each completion has between `min` and `max` characters (code points) or words (between white space)."""
    texts = _completions(requests)
    lengths = texts.str.len_chars() if config.unit == "characters" else texts.str.count_matches(WORD)
    return (lengths >= config.min) & (lengths <= (config.max if config.max is not None else lengths))


def _completions(requests: Sequence[ScoreRequest]) -> pl.Series:
    return pl.Series([request.completion for request in requests], dtype=pl.String)


def _spaced_once(texts: pl.Series) -> pl.Series:
    return texts.str.replace_all(WHITE_SPACE, " ").str.strip_chars()


def _refuse_invalid(pattern: str) -> None:
    try:
        pl.Series([""]).str.contains(pattern)
    except ComputeError as error:
        first, *others = str(error).splitlines()
        reason = next((line for line in others if line.startswith("error: ")), first)
        raise RecipeError(
            f"verifier 'regex' got pattern {pattern!r}, expected a regular expression in Rust syntax: "
            f"{reason.removeprefix('regex ').removeprefix('error: ')}"
        ) from None


def _row(request: ScoreRequest, holds: bool | None) -> Score | ScoreFailure:
    key = (request.completion_id, request.aspect, request.repeat)
    if holds is None:
        return ScoreFailure(*key, ScoreFailureKind.MISSING_INPUT, detail="the task has no gold answer")
    return Score(*key, float(holds))
