"""Two processes train together; each writes down what it saw. Started by torchrun from a test."""

import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from prefkit.stream.protocol import Weights
from prefkit_trainers.checkpoints import newest_checkpoint
from prefkit_trainers.training import TrainOutcome, train_dpo
from tests.trainers.builders import ListStream, config, text_pairs, tiny_model, tiny_policy, token_rows

RANKS = 2
BATCH = 2
STEPS = 5
ARGS: dict[str, object] = {
    "learning_rate": 1e-2, "max_steps": STEPS, "save_strategy": "steps", "save_steps": 2, "save_total_limit": 1,
    "gradient_accumulation_steps": 2, "per_device_train_batch_size": BATCH,
}  # fmt: skip


class StoppedError(Exception):
    """Both processes stop."""


class RankStream(ListStream):
    """The rows of one rank of a list that both share; stops the training after a step."""

    stop_after: int | None = None

    def step_done(self, step: int, weights: Weights) -> None:
        if step == self.stop_after:
            raise StoppedError
        super().step_done(step, weights)


def trained(folder: Path, rank: int, stop_after: int | None = None) -> tuple[TrainOutcome, RankStream]:
    rows = token_rows(text_pairs(STEPS * 2 * BATCH * RANKS), tiny_model())
    stream = RankStream(rows[rank::RANKS], folder / f"stream-{rank}", endless=True)
    stream.stop_after = stop_after
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = newest_checkpoint(folder, stream.has_state, RANKS)
    if checkpoint is not None:
        stream.restore(checkpoint.step)
    return train_dpo(tiny_policy(), stream, config(**ARGS), folder, checkpoint), stream


def main(folder: Path) -> None:
    rank = int(os.environ["RANK"])
    whole, stream = trained(folder / "whole", rank)
    with suppress(StoppedError):
        trained(folder / "stopped", rank, stop_after=4)
    again, rest = trained(folder / "stopped", rank)
    seen = {"weights": whole.weights, "again": again.weights, "served": stream.served, "told": rest.told[:2]}
    (folder / f"rank-{rank}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
