"""What a run writes about itself, and the one thing it warns of."""

import json
from collections.abc import Mapping
from math import inf, nan
from pathlib import Path

import pytest

pytest.importorskip("trl")

from hypothesis import given
from hypothesis import strategies as st
from transformers import TrainerControl, TrainerState, TrainingArguments

from prefkit_trainers.metrics import RunLog, fall, progress_line, read_metrics
from prefkit_trainers.training import train_dpo
from tests.trainers.builders import ListStream, config, text_pairs, tiny_model, tiny_policy, token_rows


def log(folder: Path, values: list[tuple[float, float]], start: int = 0) -> tuple[RunLog, list[str]]:
    """A run that has logged log-probs of chosen and rejected completions, a step each, and what it told."""
    told: list[str] = []
    run = RunLog(folder / "metrics.jsonl", start, 1, told.append)
    args = TrainingArguments(output_dir=str(folder), report_to="none", use_cpu=True)
    state = TrainerState(max_steps=100, global_step=start)
    run.on_train_begin(args, state, TrainerControl())
    for step, (chosen, rejected) in enumerate(values, start=start + 1):
        state.global_step = step
        logs = {"loss": 0.5, "epoch": 0.1, "logps/chosen": chosen, "logps/rejected": rejected}
        run.on_log(args, state, TrainerControl(), logs=logs)
    return run, told


def test_metrics_file_has_a_line_per_log_with_trls_numbers_and_the_streams(tmp_path: Path) -> None:
    stream = ListStream(token_rows(text_pairs(4), tiny_model()), endless=True, per_log={"staleness": 2.0})
    told: list[str] = []
    outcome = train_dpo(tiny_policy(), stream, config(10, max_steps=4, logging_steps=2), tmp_path, tell=told.append)
    logged = [line for line in read_metrics(tmp_path / "metrics.jsonl") if "loss" in line]
    assert [line["step"] for line in logged] == [2, 4]
    expected = {"loss", "grad_norm", "learning_rate", "rewards/margins", "rewards/chosen", "rewards/accuracies",
                "logps/chosen", "logps/rejected", "entropy", "staleness"}  # fmt: skip
    assert expected <= set(logged[-1])
    assert logged[-1]["staleness"] == 2.0
    assert outcome.metrics == {name: value for name, value in logged[-1].items() if name != "step"}
    assert [line.split("  ")[0] for line in told] == ["step 2/4", "step 4/4"]
    assert told[0].endswith("s 10")


def test_stream_is_asked_for_its_metrics_once_a_log_and_at_the_last_step_whatever_its_number(tmp_path: Path) -> None:
    class Counting(ListStream):
        asked = 0

        def metrics(self) -> Mapping[str, float]:
            self.asked += 1
            return {"asked": self.asked, "rows so far": self.served}

    stream = Counting(token_rows(text_pairs(4), tiny_model()), endless=True)
    train_dpo(tiny_policy(), stream, config(max_steps=5, logging_steps=2), tmp_path)
    logged = [line for line in read_metrics(tmp_path / "metrics.jsonl") if "loss" in line]
    assert [(line["step"], line["asked"], line["rows so far"]) for line in logged] == [
        (2, 1, 8),
        (4, 2, 16),
        (5, 3, 20),
    ]


def test_run_that_is_to_log_nothing_logs_no_step(tmp_path: Path) -> None:
    stream = ListStream(token_rows(text_pairs(4), tiny_model()), endless=True)
    train_dpo(tiny_policy(), stream, config(max_steps=2, logging_strategy="no"), tmp_path)
    assert not [line for line in read_metrics(tmp_path / "metrics.jsonl") if "loss" in line]


def test_run_log_of_a_run_that_goes_on_forgets_what_was_logged_later_or_torn(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    log(tmp_path, [(-1.0, -2.0)] * 5)
    with file.open("a") as opened:
        opened.write('{"step": 6, "lo')
    log(tmp_path, [(-3.0, -4.0)], start=3)
    assert [(line["step"], line["logps/chosen"]) for line in read_metrics(file)] == [
        (1, -1.0), (2, -1.0), (3, -1.0), (4, -3.0)
    ]  # fmt: skip


def test_metrics_file_is_json_also_of_a_diverged_training(tmp_path: Path) -> None:
    log(tmp_path, [(nan, inf)])
    [line] = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail)["logps/chosen"] is None


def test_run_log_warns_once_when_both_sides_become_less_likely(tmp_path: Path) -> None:
    falling = [(-10.0 - 0.5 * step, -12.0 - step) for step in range(60)]
    run, told = log(tmp_path, falling)
    warnings = [line for line in told if line.startswith("warning")]
    assert len(warnings) == len(run.warnings) == 1
    # Steps 11 to 20 against 1 to 10: half a nat, and a nat, per step.
    assert "(by 5.0 and 10.0 nats)" in warnings[0]
    assert "arXiv:2410.08847" in warnings[0]
    assert told.index(warnings[0]) == 20  # as soon as there are two windows


def test_run_log_that_goes_on_remembers_the_beginning(tmp_path: Path) -> None:
    log(tmp_path, [(-10.0, -10.0)] * 10)
    run, _ = log(tmp_path, [(-20.0, -20.0)] * 10, start=10)
    assert len(run.warnings) == 1


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([(-10.0 + step, -10.0 - step) for step in range(40)], id="only rejected falls"),
        pytest.param([(-10.0 - step, -10.0) for step in range(40)], id="only chosen falls"),
        pytest.param([(-10.0, -10.0)] * 40, id="nothing falls"),
        pytest.param([(-10.0 - step, -12.0 - step) for step in range(19)], id="too short"),
    ],
)
def test_run_log_does_not_warn_of_anything_else(values: list[tuple[float, float]], tmp_path: Path) -> None:
    run, _ = log(tmp_path, values)
    assert run.warnings == []


def test_fall_within_three_standard_errors_is_chance() -> None:
    # Ten values of variance 10/9 on each side: the difference has a standard error of sqrt(2 * 10/9 / 10) = 0.471.
    first = [-9.0, -11.0] * 5
    assert fall([*first, *[value - 1.4 for value in first]]) == 0
    assert fall([*first, *[value - 1.5 for value in first]]) == pytest.approx(1.5)


@given(st.lists(st.floats(-1e3, 0), min_size=20, max_size=60))
def test_fall_of_a_series_and_of_its_reverse_are_never_both(values: list[float]) -> None:
    assert fall(values) >= 0
    assert fall(values) == 0 or fall(values[::-1]) == 0


def test_progress_line_says_margin_reward_and_clock() -> None:
    logged = {"step": 12, "loss": 0.61234, "rewards/margins": 0.213, "stream/reward": 0.5}
    assert progress_line(logged, 200, 10) == "step 12/200  loss 0.6123  reward margin 0.213  reward 0.5  s 10"
    assert progress_line(logged, 200, inf).endswith("  s inf")
    assert progress_line(logged, 200, None).endswith("  offline")
