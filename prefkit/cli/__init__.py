"""The command line: `prefkit COMMAND`. One file per command, imported when the command is called.

Results go to stdout, progress and mistakes to stderr. A user's mistake is one line starting with `error:` and exit code
2; a failed gate exits 1; an interruption 130; anything else is a bug and keeps its traceback.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from prefkit import __version__
from prefkit.cli.helps import TwoColumns
from prefkit.cli.mistakes import disk_mistake, one_line, usage_mistake
from prefkit.errors import PrefkitError

COMMANDS = {
    "init": ("prefkit.cli.init:init", "Make a workspace."),
    "import": ("prefkit.cli.import_file:import_file", "Bring a file into the workspace under a name."),
    "build": ("prefkit.cli.build:build", "Build a recipe's dataset, computing only what is missing."),
    "doctor": ("prefkit.cli.doctor:doctor", "Tell what is wrong with a recipe and its data before anything runs."),
    "check": ("prefkit.cli.check:check", "Tell whether a version fits the model it will train."),
    "regenerate": ("prefkit.cli.regenerate:regenerate", "Build a version anew with another policy's completions."),
    "train": ("prefkit.cli.train:train", "Train the policy, on a version or sampling as it learns."),
    "eval": ("prefkit.cli.evaluate:evaluation", "Compare a policy with a baseline on held-out prompts."),
    "replay": ("prefkit.cli.replay:replay", "Train again on the rows that a run recorded."),
    "runs": ("prefkit.cli.runs:runs", "List runs, newest first."),
    "log": ("prefkit.cli.log:log", "List versions, newest first."),
    "show": ("prefkit.cli.show:show", "Read rows of a version, or rows it dropped."),
    "trace": ("prefkit.cli.trace:trace", "Tell the whole story of one row."),
    "ledger": ("prefkit.cli.ledger:ledger", "Account for every row of every stage of a version."),
    "diff": ("prefkit.cli.diff:diff", "Tell what changed between two versions."),
    "tag": ("prefkit.cli.tag:tag", "Give a version a name of its own."),
    "export": ("prefkit.cli.export:export", "Write a version to a folder that trainers read."),
    "verify": ("prefkit.cli.verify:verify", "Check that everything stored is what was written."),
    "gc": ("prefkit.cli.gc:gc", "Free space that nothing needs any more."),
    "version": ("prefkit.cli.version:version", "Print the version of prefkit."),
}
INTERRUPTED = 130
BROKEN_PIPE = 141


def application() -> App:
    """The commands behind the options that all of them share."""
    app = App(
        name="prefkit",
        help="Preference data that fits the model it will train.",
        version=__version__,
        help_format="plaintext",
        help_formatter=TwoColumns(),
        default_parameter=Parameter(negative=()),
    )
    app.meta.suppress_keyboard_interrupt = False  # `main` tells it, after `finally` blocks have run
    for name, (path, text) in COMMANDS.items():
        app.command(path, name=name, help=text)

    @app.meta.default
    def launch(  # pyright: ignore[reportUnusedFunction]
        *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        workspace: Annotated[Path | None, Parameter(group="Everywhere")] = None,
    ) -> int | None:
        """Preference data that fits the model it will train.

        Parameters
        ----------
        workspace
            The workspace to use. By default that of PREFKIT_WORKSPACE, or the nearest one from here upwards.
        """
        command, bound, shared = app.parse_args(tokens, exit_on_error=False, print_error=False, verbose=False)
        return command(*bound.args, **bound.kwargs, **dict.fromkeys(shared, workspace))

    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command with the given arguments (those of the process by default) and returns the exit code."""
    code, mistake = attempt(sys.argv[1:] if arguments is None else arguments)
    if mistake is not None:
        sys.stderr.write(mistake)
    return code


def attempt(arguments: Sequence[str]) -> tuple[int, str | None]:
    """Runs one command and returns the exit code, and the line that a mistake is to be told in."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        _abandon_stdout()
        return BROKEN_PIPE, None
    except KeyboardInterrupt:
        return INTERRUPTED, _line("interrupted; everything acknowledged is kept, run the command again to go on")
    except CycloptsError as mistake:
        return PrefkitError.exit_code, _line(usage_mistake(mistake))
    except PrefkitError as mistake:
        return mistake.exit_code, _line(str(mistake))
    except OSError as trouble:
        if (told := disk_mistake(trouble)) is None:
            raise
        _abandon_stdout()
        return PrefkitError.exit_code, _line(told)
    return code, None


def _run(arguments: Sequence[str]) -> int:
    code = application().meta(
        list(arguments), exit_on_error=False, print_error=False, verbose=False, result_action="return_value"
    )
    return code if isinstance(code, int) else 0


def _line(message: str) -> str:
    return f"error: {one_line(message)}\n"


def _abandon_stdout() -> None:
    """What is still buffered for a stdout that is closed or full would raise again when the interpreter ends."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError), Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())
