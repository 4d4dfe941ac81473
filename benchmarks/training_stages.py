"""Where the time of a live run goes: CPU and clock seconds by stage, each second counted for the innermost."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from importlib import import_module
from typing import Any

WORK = ("sample", "score", "reference", "copy weights", "train")
"""What a loop by hand does as well."""
MEASURED = {
    "prefkit.engines.transformers_sampler:TransformersSampler._batch": "sample",
    "prefkit.scoring.fake:FakeScorer._row": "score",
    "prefkit.pipeline.training.rows:ModelSums.sums": "reference",
    "prefkit.engines.synced_model:SyncedModel.sync": "copy weights",
    "prefkit.engines.synced_model:probed": "probe",
    "prefkit_trainers.weights:ModelWeights.probe": "probe",
    "prefkit_trainers.weights:ModelWeights.digest": "digest",
    "prefkit.pipeline.training.live:LiveSource.micro_batch": "plan, select, tokenise",
    "prefkit.stream.ranked:RankedTape.record": "record",
    "prefkit.stream.ranked:RankedTape.tell": "record",
    "prefkit.stream.stream:PreferenceStream._next_chunk": "serve",
    "prefkit.stream.stream:PreferenceStream.step_done": "clock and tallies",
    "prefkit.stream.stream:PreferenceStream.metrics": "clock and tallies",
    "prefkit_trainers.metrics:RunLog.on_log": "log",
    "transformers:Trainer.train": "train",
}
"""Functions whose time counts for a stage."""


@dataclass
class Stages:
    """CPU and clock seconds by stage, without those of stages within it; `settled` waits for the device."""

    settled: Callable[[], object] = lambda: None
    cpu: Counter[str] = field(default_factory=Counter[str])
    clock: Counter[str] = field(default_factory=Counter[str])
    _open: list[tuple[str, float, float]] = field(default_factory=list[tuple[str, float, float]])

    def watch(self, place: str, stage: str) -> None:
        """From now on the function of this name counts for the stage."""
        module, _, path = place.partition(":")
        owner: Any = import_module(module)
        *parents, name = path.split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        setattr(owner, name, self._watched(getattr(owner, name), stage))

    def _watched(self, function: Callable[..., object], stage: str) -> Callable[..., object]:
        @wraps(function)
        def timed(*args: object, **kwargs: object) -> object:
            if not self._open and stage != "train":  # before the first step, or after the last
                return function(*args, **kwargs)
            self.settled()
            cpu, clock = time.process_time(), time.perf_counter()
            self._open.append((stage, 0.0, 0.0))
            try:
                return function(*args, **kwargs)
            finally:
                self.settled()
                cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
                _, inner_cpu, inner_clock = self._open.pop()
                self.cpu[stage] += cpu - inner_cpu  # type: ignore[assignment]
                self.clock[stage] += clock - inner_clock  # type: ignore[assignment]
                if self._open:
                    around, around_cpu, around_clock = self._open.pop()
                    self._open.append((around, around_cpu + cpu, around_clock + clock))

        return timed
