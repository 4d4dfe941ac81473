import re
import shlex
from pathlib import Path

import pytest

from bring_your_data import TARGET, printed, refreshed
from prefkit.sources.adapters import ADAPTERS
from prefkit.sources.outcomes import ImportOutcome


def test_page_shows_what_its_commands_print() -> None:
    assert TARGET.read_text() == refreshed(TARGET.read_text()), "docs/bring-your-data.md is stale: run `make docs`"


def test_page_takes_every_shape_from_a_file_to_pairs() -> None:
    blocks = re.findall(r"^```console (\w+)\n(.*?)^```$", TARGET.read_text(), re.MULTILINE | re.DOTALL)
    folders = dict.fromkeys(folder for folder, _ in blocks)
    assert len(folders) == 3
    for folder in folders:
        text = "\n".join(body for name, body in blocks if name == folder)
        commands = [shlex.split(c)[1] for c in re.findall(r"^\$ (prefkit.*?)\\?$", text, re.MULTILINE)]
        assert [c for c in ("import", "build", "show") if c not in commands] == []


def test_page_names_every_adapter_and_outcome() -> None:
    text = TARGET.read_text()
    rows = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| `")]
    assert [name for name in (*ADAPTERS, *ImportOutcome) if not any(f"`{name}`" in row for row in rows)] == []


def test_page_that_says_otherwise_is_corrected() -> None:
    page = "```console ratings\n$ head -n 1 ratings.csv\nid,model\n```\n"
    assert refreshed(page) == "```console ratings\n$ head -n 1 ratings.csv\nid,model,annotator,helpful\n```\n"


@pytest.mark.parametrize("command", ["rm -r .", "prefkit import nothing.jsonl --as prompts"])
def test_command_that_fails_or_is_none_stops_the_page(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeError, match=command.split()[-1]):
        printed(command)
