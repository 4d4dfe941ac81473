import sys
import time
from pathlib import Path

from tests.packaging.distribution import loaded_by, output

PREFKIT = Path(sys.executable).parent / "prefkit"
HELP_SECONDS = 0.3
RUN_HELP = """
import sys
from contextlib import redirect_stdout, suppress
from io import StringIO
sys.argv = ["prefkit", "--help"]
from prefkit.cli import main
with redirect_stdout(StringIO()) as said, suppress(SystemExit):
    main()
assert "build" in said.getvalue(), said.getvalue()
"""


def test_help_loads_nothing_heavy() -> None:
    assert loaded_by(RUN_HELP) == set()


def test_help_answers_within_its_promise() -> None:
    def seconds() -> float:
        start = time.perf_counter()
        output([PREFKIT, "--help"])
        return time.perf_counter() - start

    # The best of several: what else the machine is doing is not ours, and only ever adds.
    assert min(seconds() for _ in range(5)) < HELP_SECONDS
