"""`prefkit train` for launchers: `torchrun --nproc_per_node 2 -m prefkit_trainers recipe.yaml`.

Takes the arguments of `prefkit train`, also behind `--`: torchrun takes `--run` for an option of its own otherwise.
What is told, results and mistakes, is told by one of the processes.
"""

import sys
from contextlib import redirect_stdout
from io import StringIO

from prefkit.cli import attempt
from prefkit_trainers.ranks import is_first, speaks_for_all


def main() -> int:
    """Trains as the arguments of this process say, and returns the exit code."""
    arguments = sys.argv[2:] if sys.argv[1:2] == ["--"] else sys.argv[1:]
    with redirect_stdout(sys.stdout if is_first() else StringIO()):
        code, mistake = attempt(["train", *arguments])
    if mistake is not None and speaks_for_all():
        sys.stderr.write(mistake)
    return code


if __name__ == "__main__":
    sys.exit(main())
