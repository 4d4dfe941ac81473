"""The recorded stream: the rows that a run served, again; no sampler, scorer or prompt file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from prefkit.stream.protocol import Row, Weights
from prefkit.stream.recording import chain
from prefkit.stream.replay import fates, served_rows, shuffled_rows


@dataclass(frozen=True, slots=True)
class Shuffle:
    """Rows leave their place, but not their window."""

    window: int | None
    """Optimizer steps whose rows are shuffled together; None shuffles all."""
    seed: int = 0


class ReplayStream:
    """A `TrainingStream` over the `recording` folder of a run, in recorded order or shuffled in windows."""

    def __init__(self, recording: Path, rows_per_step: int, shuffle: Shuffle | None = None) -> None:
        self._recording = recording
        self._rows_per_step = rows_per_step
        self._shuffle = shuffle
        self.rows_served = fates(chain(recording)).served
        """How many rows there are."""

    def rows(self) -> Iterator[Row]:
        """See TrainingStream."""
        tables = served_rows(self._recording)
        if self._shuffle is not None:
            window = self._shuffle.window
            rows = None if window is None else window * self._rows_per_step
            tables = shuffled_rows(tables, rows, self._shuffle.seed)
        for table in tables:
            yield from table.to_pylist()

    def begin(self, step: int, weights: Weights) -> None:
        """Nothing is synchronised."""

    def step_done(self, step: int, weights: Weights) -> None:
        """Nothing is decided."""

    def metrics(self) -> Mapping[str, float]:
        """The run's own metrics tell of its sampling."""
        return {}

    def save(self, step: int, weights: Weights) -> None:
        """A replay is not gone on with."""

    def saved(self, step: int) -> None:
        """See `save`."""
