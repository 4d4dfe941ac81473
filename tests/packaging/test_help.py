import sys
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

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


def cpu_seconds_of_help() -> float:
    """CPU time rather than wall time: what else the machine is doing must not decide."""
    before = getrusage(RUSAGE_CHILDREN)
    output([PREFKIT, "--help"])
    after = getrusage(RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def test_help_loads_nothing_heavy() -> None:
    assert loaded_by(RUN_HELP) == set()


def test_help_answers_within_its_promise() -> None:
    assert min(cpu_seconds_of_help() for _ in range(5)) < HELP_SECONDS
