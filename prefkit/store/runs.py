"""Runs: trainings, each a folder that holds all that it needs to go on and to be replayed.

    runs/<name>/run.json        what the run is, written once at its start
                prompts.arrow   what it samples from
                data.arrow      the rows of the version it trains on; of a mix data-<version>.arrow each
                rows.arrow      the same as it trains on them
                recording/  stream/  checkpoint-N/  metrics.jsonl  model/
                outcome.json    how it ended, written once at its end

Only files: a machine without the fact tables can train, resume and replay.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from prefkit.errors import DamageError, NotFoundError, RecipeError, suggestion
from prefkit.identity import Json
from prefkit.store.files import disk_trouble, fsync_file, write_durably

T = TypeVar("T", "RunRecord", "RunOutcome")
FORMAT = 1
NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What a run is."""

    id: str
    """A hash of everything that decides its rows, so the same run in another workspace has the same id."""
    method: str
    recipe: Mapping[str, Json]
    """As it was written, with every override."""
    folder: str
    """What the recipe's relative paths start from."""
    policy_id: str
    """The weights it starts from."""
    data: str | None
    """What it trains on, for people: a version, or the sources of a mix; None for its own samples alone."""
    created: str
    ranks: int = 1
    """How many processes train together: each serves its share of the rows."""
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run ended."""

    steps: int
    weights: str
    """Digest of the final weights."""
    metrics: Mapping[str, float]
    """The last of each."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run."""

    name: str
    folder: Path

    @property
    def record(self) -> RunRecord:
        """What it is. Raises DamageError when that cannot be read."""
        return _read(self.folder / "run.json", RunRecord)

    @property
    def outcome(self) -> RunOutcome | None:
        """How it ended; None while it has not."""
        path = self.folder / "outcome.json"
        return _read(path, RunOutcome) if path.exists() else None

    @property
    def logged(self) -> Mapping[str, float]:
        """The last of every number that was logged so far, and the `step` it was logged at; empty before the first."""
        path = self.folder / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        entries = [entry for line in lines if "loss" in (entry := _logged(line))]
        return {name: value for entry in entries for name, value in entry.items() if value is not None}

    def begin(self, record: RunRecord) -> None:
        """Writes what it is, once all its other files are there."""
        write_durably(self.folder / "run.json", _json(record))

    def end(self, outcome: RunOutcome) -> None:
        """Writes how it ended."""
        write_durably(self.folder / "outcome.json", _json(outcome))

    def keep(self, name: str, rows: pa.Table) -> None:
        """Writes an Arrow file, durably."""
        path = self.folder / f"{name}.arrow"
        with disk_trouble(path), pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
            writer.write_table(rows)
        fsync_file(path)

    def kept(self, name: str) -> pa.Table:
        """The rows of such a file, mapped into memory."""
        path = self.folder / f"{name}.arrow"
        try:
            return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        except (OSError, pa.ArrowInvalid) as error:
            raise DamageError(f"{path} cannot be read ({error}): restore it from a copy, or start a new run") from None


@dataclass(frozen=True, slots=True)
class Runs:
    """All runs of a workspace; `root` is the `.prefkit` folder."""

    root: Path

    def all(self) -> list[Run]:
        """The runs, by name."""
        return [Run(path.parent.name, path.parent) for path in sorted((self.root / "runs").glob("*/run.json"))]

    def get(self, name: str) -> Run:
        """The run of this name. Raises NotFoundError."""
        run = Run(name, self.root / "runs" / name)
        if NAME.match(name) and (run.folder / "run.json").exists():
            return run
        known = [run.name for run in self.all()]
        hint = suggestion(name, known) if known else "; there is none yet, run `prefkit train`"
        raise NotFoundError(f"run {name!r} does not exist{hint}")

    def prepare(self, name: str) -> Run:
        """A folder for a new run of this name. Raises RecipeError for a name that is taken or no file name."""
        if not NAME.match(name):
            raise RecipeError(f"run name {name!r} is no file name: use letters, digits, '.', '_' and '-'")
        run = Run(name, self.root / "runs" / name)
        if (run.folder / "run.json").exists():
            raise RecipeError(f"run {name!r} exists already: go on with `--resume`, or name another with --run")
        with disk_trouble(run.folder):
            run.folder.mkdir(parents=True, exist_ok=True)
        return run

    def free_name(self, stem: str) -> str:
        """`stem-1`, `stem-2`, ...: the first that no run has."""
        taken = {run.name for run in self.all()}
        return next(name for n in range(1, len(taken) + 2) if (name := f"{stem}-{n}") not in taken)


def _json(value: RunRecord | RunOutcome) -> bytes:
    return json.dumps(asdict(value), indent=1, ensure_ascii=False).encode()


def _logged(line: str) -> dict[str, float | None]:
    """A line of metrics; empty for one that a crash cut short."""
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _read(path: Path, kind: type[T]) -> T:
    try:
        values = json.loads(path.read_bytes())
        return kind(**{field.name: values[field.name] for field in fields(kind)})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamageError(f"{path} cannot be read ({error}): restore it from a copy, or start a new run") from None
