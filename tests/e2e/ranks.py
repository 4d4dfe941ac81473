"""`python -m prefkit_trainers` in several processes, as a launcher starts them; each writes down what it trained on."""

import json
import multiprocessing
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from prefkit.sampling.weights import Weights

if TYPE_CHECKING:
    from prefkit_trainers.training import TrainOutcome

KILLED = 9


def launch(folder: Path, arguments: Sequence[str], size: int, killed_at: int | None = None) -> list[int]:
    """Exit codes of so many processes. What they say lies in `output-RANK.txt`, what they end with in `end-RANK.json`.

    All of them die when this step is over, and before anybody hears of it.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["prefkit.cli", "prefkit_trainers.running"])
    port = _free_port()
    places = [
        {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1",
         "MASTER_PORT": str(port)}
        for rank in range(size)
    ]  # fmt: skip
    processes = [context.Process(target=_rank, args=(folder, list(arguments), p, killed_at)) for p in places]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [-1 if process.exitcode is None else process.exitcode for process in processes]


def end_of(folder: Path, rank: int) -> dict[str, object]:
    """The `rows` that a rank of the last launch trained on, by id and in order, and its final `weights`."""
    return json.loads((folder / f"end-{rank}.json").read_text())


def output_of(folder: Path, rank: int) -> str:
    """All that a rank has said."""
    return (folder / f"output-{rank}.txt").read_text()


def _rank(folder: Path, arguments: list[str], place: Mapping[str, str], killed_at: int | None) -> None:
    os.chdir(folder)
    os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", **place}
    sys.stderr = sys.stdout = (folder / f"output-{place['RANK']}.txt").open("a")
    sys.argv = ["prefkit_trainers", *arguments]
    import torch

    from prefkit.stream.stream import PreferenceStream
    from prefkit_trainers import running
    from prefkit_trainers.__main__ import main

    torch.set_num_threads(1)
    end: dict[str, object] = {}
    rows, step_done, train_dpo = PreferenceStream.rows, PreferenceStream.step_done, running.train_dpo

    def remembered_rows(stream: PreferenceStream) -> Iterator[Mapping[str, object]]:
        end["rows"] = ids = list[str]()
        for row in rows(stream):
            ids.append(cast(bytes, row["row_id"]).hex())
            yield row

    def mortal_step(stream: PreferenceStream, step: int, weights: Weights) -> None:
        if step == killed_at:
            os._exit(KILLED)
        step_done(stream, step, weights)

    def remembered_weights(*args: Any, **kwargs: Any) -> "TrainOutcome":
        outcome = train_dpo(*args, **kwargs)
        end["weights"] = outcome.weights
        return outcome

    PreferenceStream.rows, PreferenceStream.step_done = remembered_rows, mortal_step  # type: ignore[method-assign]
    running.train_dpo = remembered_weights
    code = main()
    Path(f"end-{place['RANK']}.json").write_text(json.dumps(end))
    sys.stdout.flush()
    os._exit(code)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
