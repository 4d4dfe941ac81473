"""The JSON of a benchmark that takes long: every run is in it as soon as it is made, so the command can be stopped."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

Run = Mapping[str, object]


class Results:
    """The JSON: settings, every run, and what they say together."""

    def __init__(self, path: Path, settings: Mapping[str, object]) -> None:
        self._path = path
        new = {"settings": settings, "runs": {}}
        found = cast(dict[str, object], json.loads(path.read_text()) if path.exists() else new)
        if found["settings"] != settings:
            raise SystemExit(f"{path} was made with other settings: remove it, or write another file")
        self.runs = cast(dict[str, Run], found["runs"])
        """By key."""
        self._found = found

    def add(self, key: str, run: Run) -> None:
        """Keeps a run."""
        self.runs[key] = run
        self.write()

    def note(self, name: str, value: object) -> None:
        """Keeps something that is no run."""
        self._found[name] = value
        self.write()

    def write(self) -> None:
        """As a whole, so that a crash leaves the last file."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(".draft")
        draft.write_text(json.dumps(self._found, indent=1) + "\n")
        draft.replace(self._path)
