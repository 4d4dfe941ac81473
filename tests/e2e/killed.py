"""Commands in processes that die at a chosen place, as from a power cut: `os._exit`, no clean-up, nothing flushed; or
after a chosen time, by SIGKILL.
"""

import importlib
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from io import FileIO
from multiprocessing.process import BaseProcess
from pathlib import Path

KILLED = 9
PLACES = {
    "draw": "prefkit.pipeline.training.live:LiveSource.micro_batch",
    "sync": "prefkit.pipeline.training.live:LiveSource.sync",
    "record": "prefkit.stream.recording:Recorder.append",
    "frame": "prefkit.stream.frames:_write",
    "state": "prefkit.stream.state:fsync_file",
    "step": "prefkit_trainers.clock:Clock.on_step_end",
    "checkpoint": "transformers:Trainer._save_checkpoint",
    "optimizer": "transformers:Trainer._save_optimizer_and_scheduler",
    "rotation": "prefkit_trainers.clock:Clock.on_save",
    "model": "prefkit_trainers.training:publish_folder",
}
"""Where a process can be killed: functions by name."""
CALLS = "calls.txt"
Function = Callable[..., object]


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
    prepare = None if place is None else partial(_set_trap, place, nth, after)
    return _exit_code(_started(folder, arguments, prepare, missing))


def run_for(folder: Path, arguments: Sequence[str], seconds: float) -> int:
    """The same, killed by SIGKILL after so many seconds: then the exit code is -SIGKILL."""
    process = _started(folder, arguments)
    process.join(seconds)
    process.kill()
    return _exit_code(process)


def counted(folder: Path, arguments: Sequence[str]) -> Counter[str]:
    """Runs `prefkit ARGUMENTS` to its end, which must be a good one, and counts the calls of every place."""
    code = _exit_code(_started(folder, arguments, partial(_note_calls, folder / CALLS)))
    assert code == 0, (folder / "output.txt").read_text()
    return Counter((folder / CALLS).read_text().split())


def _started(
    folder: Path, arguments: Sequence[str], prepare: Callable[[], None] | None = None, missing: Sequence[str] = ()
) -> BaseProcess:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["prefkit.cli", "prefkit_trainers.running"])
    process = context.Process(target=_command, args=(folder, list(arguments), prepare, missing))
    process.start()
    return process


def _exit_code(process: BaseProcess) -> int:
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _command(folder: Path, arguments: list[str], prepare: Callable[[], None] | None, missing: Sequence[str]) -> None:
    os.chdir(folder)
    assert not sys.modules.keys() & set(missing), "they were imported before"
    sys.modules |= dict.fromkeys(missing)  # type: ignore[arg-type]  # None makes an import fail
    os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    os.environ.pop("PREFKIT_WORKSPACE", None)
    sys.stderr = sys.stdout = (folder / "output.txt").open("a")
    import torch

    torch.set_num_threads(1)
    if prepare is not None:
        prepare()
    from prefkit.cli import main

    code = main(arguments)
    sys.stdout.flush()
    os._exit(code)


def _note_calls(path: Path) -> None:
    """From now on every call of a place is a line of this file."""

    def noted(place: str, original: Function, *args: object, **kwargs: object) -> object:
        with path.open("a") as file:
            file.write(f"{place}\n")
        return original(*args, **kwargs)

    for place in PLACES:
        _replace(place, partial(noted, place))


def _set_trap(place: str, nth: int, after: bool) -> None:
    calls = 0

    def trap(original: Function, *args: object, **kwargs: object) -> object:
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

    _replace(place, trap)


def _replace(place: str, instead: Function) -> None:
    """From now on calls of a place are calls of `instead`, with the original before their arguments."""
    module, _, path = PLACES[place].partition(":")
    owner: object = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original: Function = getattr(owner, name)

    def replaced(*args: object, **kwargs: object) -> object:
        return instead(original, *args, **kwargs)

    setattr(owner, name, replaced)
