"""A scorer without a rule or a model, for tests and dry runs.

A score is a function of what is judged (completion, aspect, repeat) and the seed. Shares of the calls can be made to
fail; which ones depends on the same key alone, so a call fails however often it is made, until the share is taken back.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

from prefkit.scoring.config import FakeScorer as FakeScorerConfig
from prefkit.scoring.config import ScoreConfig
from prefkit.scoring.protocol import Score, ScoreFailure, ScoreFailureKind, ScoreRequest


class FakeScorer:
    """Scores by `value`, a number in [0, 1) that belongs to the request by default.

    `failures` maps a kind to the share of the requests that fail with it. `requests` is everything that was asked, in
    order, so a test can show that nothing was asked twice.
    """

    def __init__(
        self,
        value: Callable[[ScoreRequest], float] | None = None,
        failures: Mapping[ScoreFailureKind, float] | None = None,
        seed: int = 0,
        batch_size: int = 256,
    ) -> None:
        self.requests: list[ScoreRequest] = []
        self._value = value or (lambda request: uniform(request, f"score {seed}"))
        self._failures = dict(failures or {})
        self._seed = seed
        self._batch_size = batch_size

    @classmethod
    def open(cls, config: ScoreConfig, folder: Path) -> "FakeScorer":
        """The scorer `fake` of a recipe."""
        assert isinstance(config, FakeScorerConfig)
        return cls(failures=config.failures, seed=config.seed, batch_size=config.batch_size)

    @property
    def deterministic(self) -> bool:
        return True

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[Sequence[Score | ScoreFailure]]:
        for start in range(0, len(requests), self._batch_size):
            batch = requests[start : start + self._batch_size]
            self.requests.extend(batch)
            yield [self._row(request) for request in batch]

    def _row(self, request: ScoreRequest) -> Score | ScoreFailure:
        key = (request.completion_id, request.aspect, request.repeat)
        place = uniform(request, f"failure {self._seed}")
        for kind, share in self._failures.items():
            if place < share:
                return ScoreFailure(*key, kind, detail="made to fail")
            place -= share
        return Score(*key, self._value(request), rationale="made up")


def uniform(request: ScoreRequest, purpose: str) -> float:
    """A number in [0, 1) that belongs to a request's key and a purpose."""
    key = b"\0".join([purpose.encode(), request.aspect.encode(), str(request.repeat).encode(), request.completion_id])
    return int.from_bytes(blake2b(key, digest_size=6).digest(), "big") / 2**48
