"""`verify`: are the stored bytes the bytes that were written, and which rows are hit where they are not?

Files are compared with the checksums taken when they were written. In a file that differs, rows are read as far as they
can be and held against their own checksums; a file, or batch of a file, that cannot be read at all is named row by row
from the ids that were kept apart. Nothing is changed or repaired.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from prefkit.errors import DamageError, LedgerError
from prefkit.hashing import row_hashes
from prefkit.identity import ID_BYTES
from prefkit.records import FACT_TABLES
from prefkit.store.checksums import file_checksum
from prefkit.store.data_files import KnownFile
from prefkit.store.versions import BATCH_ROWS, Version, file_hash
from prefkit.store.workspace import Workspace

STAMPS = ("batch_id", "row_hash")


@dataclass(frozen=True, slots=True)
class Damage:
    """A place whose bytes are not what was written, and the rows (hex ids) that are hit."""

    place: str
    reason: str
    row_ids: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True)
class Report:
    """What was checked, counted, and what was found."""

    checked: dict[str, int]
    damages: list[Damage]


def verify(workspace: Workspace) -> Report:
    """Checks every fact file that the current or a pinned version of a table reads, every version and every tag."""
    with workspace.shared():
        files = [(name, known) for name in FACT_TABLES for known in _present(workspace, name)]
        versions = [v for name in workspace.versions.names() for v in workspace.versions.all(name)]
        damages = [d for name, known in files for d in _fact_file(workspace, name, known)]
        damages += [d for name in FACT_TABLES for d in _lost_files(workspace, name)]
        damages += [d for version in versions for d in _version(version)]
        damages += _tags(workspace, {v.label for v in versions})
    return Report(
        {"fact files": len(files), "versions": len(versions), "tags": len(workspace.versions.tags())}, damages
    )


def _present(workspace: Workspace, name: str) -> list[KnownFile]:
    files, read = workspace.facts.files(name), workspace.facts.files_read(name)
    return [k for k in files.known() if k.name in read and (files.folder / k.name).exists()]


def _fact_file(workspace: Workspace, name: str, known: KnownFile) -> Iterator[Damage]:
    path = workspace.facts.files(name).folder / known.name
    if file_checksum(path) == known.checksum:
        return
    ids = _split_ids(known.ids)
    place = f"facts/{name}, file {known.name}"
    try:
        rows = workspace.facts.fragment_rows(name, known.name)
        hit = _changed_rows(rows, [c for c in rows.column_names if c not in STAMPS])
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - damaged bytes make the reader raise anything, panics included
        yield Damage(place, f"cannot be read ({str(error).splitlines()[0][:120]})", ids)
        return
    if len(hit):
        yield Damage(place, f"{len(hit)} of {len(ids)} rows are not what was written", [ids[i] for i in hit])
    else:
        yield Damage(place, f"bytes between the values of its {len(ids)} rows are not what was written", ids)


def _lost_files(workspace: Workspace, name: str) -> Iterator[Damage]:
    files = workspace.facts.files(name)
    known = {k.name: k for k in files.known()}
    for file in workspace.facts.files_read(name):
        if not (files.folder / file).exists():
            yield Damage(
                f"facts/{name}, file {file}", "is missing", _split_ids(known[file].ids) if file in known else []
            )
        elif file not in known:
            yield Damage(f"facts/{name}, file {file}", "has no checksum on record")


def _version(version: Version) -> Iterator[Damage]:
    try:
        entries = version.files
        _ = version.ledger
    except (DamageError, LedgerError) as error:
        yield Damage(f"{version.label}, manifest.json", str(error))
        return
    for name, entry in entries.items():
        path = version.path(name)
        ids_path = path.with_suffix(".ids")
        if not path.exists() or file_hash(path) != entry["blake2b"]:
            yield _version_file(version, path)
        if not ids_path.exists() or file_hash(ids_path) != entry["ids_blake2b"]:
            yield Damage(
                f"{version.label}, {ids_path.name}",
                "the spare copy of the row ids is not what was written; the rows are in the .arrow file",
            )


def _version_file(version: Version, path: Path) -> Damage:
    place = f"{version.label}, {path.name}"
    ids = _split_ids(path.with_suffix(".ids").read_bytes()) if path.with_suffix(".ids").exists() else []
    if not path.exists():
        return Damage(place, "is missing", ids)
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        hit = [row for batch in range(reader.num_record_batches) for row in _batch_damage(reader, batch, len(ids))]
    except (pa.ArrowException, OSError) as error:
        return Damage(place, f"cannot be read ({str(error).splitlines()[0][:120]})", ids)
    if hit:
        return Damage(place, f"{len(hit)} of {len(ids)} rows are not what was written", [ids[i] for i in hit])
    return Damage(place, f"bytes between the values of its {len(ids)} rows are not what was written", ids)


def _batch_damage(reader: pa.RecordBatchFileReader, number: int, rows: int) -> list[int]:
    first = number * BATCH_ROWS
    try:
        batch = reader.get_batch(number)
        if batch.num_rows != min(BATCH_ROWS, rows - first):
            raise pa.ArrowInvalid("the batch has another number of rows")
        table = pa.table(batch)
        hit = _changed_rows(table, [c for c in table.column_names if c != "row_hash"])
    except (pa.ArrowException, OSError, ValueError):
        return list(range(first, min(first + BATCH_ROWS, rows)))
    return [first + int(i) for i in hit]


def _changed_rows(rows: pa.Table, columns: list[str]) -> np.ndarray:
    rows.validate(full=True)
    return np.flatnonzero(row_hashes(rows, columns) != rows["row_hash"].to_numpy())


def _tags(workspace: Workspace, labels: set[str]) -> list[Damage]:
    tags = workspace.versions.tags()
    return [
        Damage(f"tag {tag}", f"names {label}, which is not there") for tag, label in tags.items() if label not in labels
    ]


def _split_ids(ids: bytes) -> list[str]:
    return [ids[i : i + ID_BYTES].hex() for i in range(0, len(ids), ID_BYTES)]
