"""What a run writes and says about itself: `metrics.jsonl`, a line of progress, and one plain warning."""

import json
from collections.abc import Callable, Mapping, Sequence
from math import inf, isfinite, sqrt
from pathlib import Path
from statistics import fmean, variance
from typing import TypeAlias, cast

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from prefkit.store.files import disk_trouble, write_durably

Logged: TypeAlias = dict[str, float | None]
"""Numbers by name, and the `step` they are of; None for what is no number, as a diverged loss."""

WINDOW = 10
"""So many logged values are compared with as many."""
STANDARD_ERRORS = 3.0
BOTH = ("logps/chosen", "logps/rejected")
DISPLACEMENT = (
    "chosen and rejected completions have both become less likely since the run began (by {0:.1f} and {1:.1f} nats): "
    "their probability goes to completions that are in no pair. This is likelihood displacement (Razin et al. 2024, "
    "arXiv:2410.08847; Pal et al. 2024, arXiv:2402.13228), and a growing reward margin does not show it. If held-out "
    "reward falls, too, leave out pairs whose sides are much alike, lower the learning rate or add the loss 'sft'"
)


class RunLog(TrainerCallback):
    """Appends what a trainer logs to `file`; tells progress, and once when both sides of the pairs become less likely.

    A run that goes on after the step `start` forgets what was logged after it: it will be logged again.
    """

    def __init__(self, file: Path, start: int, sync_period: float | None, tell: Callable[[str], None]) -> None:
        self._file = file
        self._sync_period = sync_period
        self._tell = tell
        self._logged = [logged for logged in read_metrics(file) if (logged["step"] or 0) <= start]
        self.warnings: list[str] = []

    @property
    def last(self) -> Mapping[str, float]:
        """The last value of every number, those of the end of the training apart."""
        seen = {name: value for logged in self._logged if "loss" in logged for name, value in logged.items()}
        return {name: value for name, value in seen.items() if value is not None and name != "step"}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if state.is_world_process_zero:
            write_durably(self._file, "".join(map(_line, self._logged)).encode())

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, object] | None = None,
        **kwargs: object,
    ) -> None:
        if not state.is_world_process_zero or logs is None:
            return
        logged = {"step": state.global_step, **_numbers(logs)}
        self._logged.append(logged)
        with disk_trouble(self._file), self._file.open("a", encoding="utf-8") as file:
            file.write(_line(logged))
        if "loss" in logged:
            self._tell(progress_line(logged, state.max_steps, self._sync_period))
            self._warn()

    def _warn(self) -> None:
        falls = [fall([value for row in self._logged if (value := row.get(name)) is not None]) for name in BOTH]
        if not self.warnings and all(falls):
            self.warnings.append(DISPLACEMENT.format(*falls))
            self._tell(f"warning: {self.warnings[0]}")


def fall(values: Sequence[float]) -> float:
    """By how much the last WINDOW values lie below the first ones on average, or 0 when that may be chance.

    Chance is a difference of less than three standard errors, as of two independent samples.
    """
    if len(values) < 2 * WINDOW:
        return 0.0
    first, last = values[:WINDOW], values[-WINDOW:]
    difference = fmean(first) - fmean(last)
    error = sqrt((variance(first) + variance(last)) / WINDOW)
    return difference if difference > STANDARD_ERRORS * error else 0.0


def progress_line(logged: Logged, steps: int, sync_period: float | None) -> str:
    """One line about one logged step."""
    named = {"loss": "loss", "reward margin": "rewards/margins", "reward": "stream/reward"}
    values = [f"{name} {value:.4g}" for name, key in named.items() if (value := logged.get(key)) is not None]
    clock = {None: "offline", inf: "s inf"}.get(sync_period) or f"s {sync_period:g}"
    return "  ".join([f"step {logged['step']:g}/{steps}", *values, clock])


def read_metrics(file: Path) -> list[Logged]:
    """What was logged, in order. A line that a crash cut short is left out."""
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else []
    return [logged for line in lines if (logged := _logged(line)) is not None]


def _logged(line: str) -> Logged | None:
    try:
        value: object = json.loads(line)
    except ValueError:
        return None
    return cast(Logged, value) if isinstance(value, dict) and "step" in value else None


def _numbers(logs: Mapping[str, object]) -> Logged:
    # `epoch` is the share of the run that is done: the step says it already.
    numbers = {name: float(value) for name, value in logs.items() if isinstance(value, int | float) and name != "epoch"}
    return {name: value if isfinite(value) else None for name, value in numbers.items()}


def _line(logged: Logged) -> str:
    return json.dumps(logged) + "\n"
