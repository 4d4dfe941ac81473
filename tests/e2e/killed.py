"""Commands in processes that die at a chosen place, as from a power cut: `os._exit`, no clean-up, nothing flushed."""

import importlib
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path

KILLED = 9
PLACES = {
    "draw": "prefkit.pipeline.live:LiveSource.micro_batch",
    "sync": "prefkit.pipeline.live:LiveSource.sync",
    "record": "prefkit.stream.recording:Recorder.append",
    "frame": "prefkit.stream.frames:_write",
    "state": "prefkit.stream.state:fsync_file",
    "step": "prefkit_trainers.clock:Clock.on_step_end",
    "checkpoint": "transformers:Trainer._save_checkpoint",
    "optimizer": "transformers:Trainer._save_optimizer_and_scheduler",
    "rotation": "prefkit_trainers.clock:Clock.on_save",
}
"""Where a process can be killed: functions by name."""


def run(
    folder: Path,
    arguments: Sequence[str],
    place: str | None = None,
    nth: int = 1,
    after: bool = False,
    missing: Sequence[str] = (),
) -> int:
    """Runs `prefkit ARGUMENTS` in a folder, in a process of its own, and returns its exit code.

    At the n-th call of a place it is killed, before the call or after it; in `frame`, half way through. The `missing`
    packages cannot be imported, as where they are not installed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["prefkit.cli", "prefkit_trainers.running"])
    process = context.Process(target=_command, args=(folder, list(arguments), place, nth, after, missing))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _command(
    folder: Path, arguments: list[str], place: str | None, nth: int, after: bool, missing: Sequence[str]
) -> None:
    os.chdir(folder)
    assert not sys.modules.keys() & set(missing), "they were imported before"
    sys.modules |= dict.fromkeys(missing)  # type: ignore[arg-type]  # None makes an import fail
    os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    os.environ.pop("PREFKIT_WORKSPACE", None)
    sys.stderr = sys.stdout = (folder / "output.txt").open("a")
    import torch

    torch.set_num_threads(1)
    if place is not None:
        _set_trap(place, nth, after)
    from prefkit.cli import main

    code = main(arguments)
    sys.stdout.flush()
    os._exit(code)


def _set_trap(place: str, nth: int, after: bool) -> None:
    module, _, path = PLACES[place].partition(":")
    owner: object = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original: Callable[..., object] = getattr(owner, name)
    calls = 0

    def trap(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == nth and not after:
            if place == "frame":
                file, data = args
                assert isinstance(file, FileIO)
                assert isinstance(data, bytes)
                file.write(data[: len(data) // 2])
            os._exit(KILLED)
        result = original(*args, **kwargs)
        if calls == nth:
            os._exit(KILLED)
        return result

    setattr(owner, name, trap)
