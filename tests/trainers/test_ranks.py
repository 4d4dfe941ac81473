"""Two processes under torchrun train one model on rows that are each rank's own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("trl")

from torch.distributed import TCPStore

from prefkit_trainers.metrics import read_metrics
from prefkit_trainers.ranks import speaks_for_all
from prefkit_trainers.training import train_dpo
from tests.trainers import two_ranks
from tests.trainers.builders import ListStream, config, text_pairs, tiny_model, tiny_policy, token_rows

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    subprocess.run(
        [*command, "-m", two_ranks.__name__, str(folder)], cwd=ROOT, env=environment, check=True, timeout=280
    )
    return folder


def test_mistake_that_all_ranks_meet_is_told_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    environment = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(launcher.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def told_by(rank: int) -> bool:
        monkeypatch.setenv("RANK", str(rank))
        return speaks_for_all()

    assert [told_by(rank) for rank in (1, 0, 2)] == [True, False, False]


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(folder / "metrics.jsonl") if line.get("loss") is not None]


def seen(folder: Path, rank: int) -> dict[str, object]:
    return json.loads((folder / f"rank-{rank}.json").read_text())


def test_two_ranks_end_with_equal_weights_and_read_every_row_once(ranks: Path) -> None:
    one, other = (seen(ranks, rank) for rank in range(two_ranks.RANKS))
    assert one["weights"] == other["weights"]
    assert one["served"] == other["served"] == two_ranks.STEPS * 2 * two_ranks.BATCH


def test_two_ranks_that_were_stopped_go_on_to_the_same_weights(ranks: Path) -> None:
    for rank in range(two_ranks.RANKS):
        assert seen(ranks, rank)["again"] == seen(ranks, rank)["weights"]
        assert seen(ranks, rank)["told"] == [["begin", 2], ["step", 3]]
    assert losses(ranks / "stopped") == losses(ranks / "whole")


def test_two_ranks_have_the_losses_of_one_process_that_reads_all_rows(ranks: Path, tmp_path: Path) -> None:
    batch = two_ranks.BATCH * two_ranks.RANKS
    stream = ListStream(token_rows(text_pairs(two_ranks.STEPS * 2 * batch), tiny_model()))
    args = two_ranks.ARGS | {"per_device_train_batch_size": batch, "save_strategy": "no"}
    train_dpo(tiny_policy(), stream, config(**args), tmp_path)
    assert losses(ranks / "whole") == pytest.approx(losses(tmp_path), abs=1e-5)
