"""Requests and what became of them, short enough to read in a test."""

from collections.abc import Iterable, Sequence

from prefkit.scoring.protocol import Score, ScoreFailure, Scorer, ScoreRequest


def request(completion: str, answer: str | None = None, number: int = 0, **inputs: str | None) -> ScoreRequest:
    return ScoreRequest(
        completion_id=number.to_bytes(16, "big"),
        aspect="quality",
        repeat=0,
        prompt=[{"role": "user", "content": "What is it?"}],
        completion=completion,
        inputs={"answer": answer} | inputs,
    )


def requests(*pairs: tuple[str, str | None]) -> list[ScoreRequest]:
    return [request(completion, answer, number) for number, (completion, answer) in enumerate(pairs)]


def rows(batches: Iterable[Sequence[Score | ScoreFailure]]) -> list[Score | ScoreFailure]:
    """Every row of the batches, in the order of the requests."""
    return sorted((row for batch in batches for row in batch), key=lambda row: row.completion_id)


def outcomes(scorer: Scorer, asked: Sequence[ScoreRequest]) -> list[float | str]:
    """The score or the failure kind of each request, in order."""
    return [row.score if isinstance(row, Score) else row.kind.value for row in rows(scorer.score(asked))]


def outcome(scorer: Scorer, completion: str, answer: str | None) -> float | str:
    return outcomes(scorer, [request(completion, answer)])[0]
