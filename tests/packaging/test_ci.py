import re
from pathlib import Path

CI = Path(__file__).parents[2] / ".ci" / "run"


def test_ci_script_closes_no_pipe_early() -> None:
    """Under pipefail a reader that stops early (`head`, `grep -q`) ends the run while the writer still writes."""
    commands = [line.split("  # ")[0] for line in CI.read_text().splitlines()]

    assert any("pipefail" in line for line in commands)
    assert not [line for line in commands if re.search(r"\|\s*(head|grep -q)", line)]
