"""How far the policy is from the reference on its rows: by hand, and from a real training."""

from math import exp, log
from pathlib import Path

import pytest

pytest.importorskip("trl")

import torch
from hypothesis import given
from hypothesis import strategies as st

from prefkit_trainers.log_ratios import K1, K3, k1_and_k3, log_ratios
from prefkit_trainers.metrics import read_metrics
from prefkit_trainers.training import train_dpo
from tests.trainers.builders import ListStream, config, logps, text_pairs, tiny_model, tiny_policy, token_rows


def test_log_ratios_of_a_batch_by_hand() -> None:
    # One pair: the prompt has 2 tokens, chosen 2 and rejected 1, so 3 predictions of which the last 2 and 1 count.
    logprobs = torch.tensor([[0.0, -1.0, -2.0], [0.0, -4.0, 0.0]])
    inputs = {
        "completion_mask": torch.tensor([[0, 0, 1, 1], [0, 0, 1, 0]]),
        "ref_chosen_logps": torch.tensor([-3.5]),
        "ref_rejected_logps": torch.tensor([-3.0]),
    }
    ratios = log_ratios(logprobs, inputs)
    assert ratios.tolist() == [0.5, -1.0]
    assert k1_and_k3(ratios) == {
        K1: -0.25,
        K3: pytest.approx((exp(-0.5) - 1 + 0.5 + exp(1) - 1 - 1) / 2),
    }


@given(st.lists(st.floats(-20, 20), min_size=1))
def test_k3_is_never_negative(ratios: list[float]) -> None:
    assert k1_and_k3(torch.tensor(ratios))[K3] >= 0


def test_k1_and_k3_of_draws_from_the_policy_itself_estimate_the_divergence() -> None:
    policy, reference = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.3, 0.5])
    divergence = float((policy * (policy / reference).log()).sum())
    draws = torch.multinomial(policy, 200_000, replacement=True, generator=torch.Generator().manual_seed(0))
    found = k1_and_k3((policy / reference).log()[draws])
    assert found[K1] == pytest.approx(divergence, abs=0.01)
    assert found[K3] == pytest.approx(divergence, abs=0.01)


def test_metrics_of_a_training_say_how_far_it_is_from_its_reference(tmp_path: Path) -> None:
    rows = token_rows(text_pairs(8), tiny_model())
    # The reference of the second batch says half a nat more of everything than the policy that training began with.
    for row in rows[4:]:
        for side in ("chosen", "rejected"):
            row[f"ref_{side}_logps"] = float(str(row[f"ref_{side}_logps"])) + 0.5
    stream = ListStream(rows)
    train_dpo(tiny_policy(), stream, config(learning_rate=0.0, max_steps=2), tmp_path / "run", rows=8)
    first, second = [line for line in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss" in line]
    assert first["loss"] == pytest.approx(log(2), abs=1e-5)
    assert (first[K1], first[K3]) == pytest.approx((0, 0), abs=1e-5)
    assert second[K1] == pytest.approx(-0.5, abs=1e-5)
    assert second[K3] == pytest.approx(exp(0.5) - 1 - 0.5, abs=1e-5)


def test_distance_is_a_mean_over_all_micro_batches_of_the_logged_steps(tmp_path: Path) -> None:
    rows = token_rows(text_pairs(8), tiny_model())
    rows[0]["ref_chosen_logps"] = logps(tiny_model(), rows[0]["prompt_ids"], rows[0]["chosen_ids"]) - 16  # type: ignore[arg-type]
    given = config(learning_rate=0.0, max_steps=2, per_device_train_batch_size=2, gradient_accumulation_steps=2)
    given.args["logging_steps"] = 10
    train_dpo(tiny_policy(), ListStream(rows), given, tmp_path / "run", rows=8)
    # No step is the tenth: the last one is logged all the same.
    [logged] = [line for line in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss" in line]
    assert logged["step"] == 2
    assert logged[K1] == pytest.approx(1.0, abs=1e-5)  # 16 nats of one of 16 completions
