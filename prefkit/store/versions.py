"""Versions: immutable datasets, `name@v1`, `name@v2`, ..., each a folder of Arrow files and a manifest.

    versions/<name>/v3/manifest.json    content (hashed), pins and provenance (outside the hash)
                       train.arrow      the rows, memory-mappable; test.arrow beside it where the recipe holds rows out
                       outcomes.arrow   every row that did not come this far, by stage, with the outcome it ended in
                       train.ids, ...   the ids of a file's rows once more, to name the rows of a file that is damaged

A version is written in `tmp/`, fsynced and renamed: the rename is the commit. Two builds that reach the same facts by
different ways write the same `content`, byte for byte; who, when, and which table versions stand outside it.
"""

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from prefkit.errors import DamageError, NotFoundError, suggestion
from prefkit.hashing import one_array, row_hashes
from prefkit.identity import ID_BYTES, id_words
from prefkit.ledger import StageAccount
from prefkit.store.files import disk_trouble, publish_folder, remove_tree, write_durably
from prefkit.store.manifest import FORMAT, Content, FileEntry, Manifest, Provenance, content_hash

BATCH_ROWS = 4_096
LABEL = re.compile(r"^(?P<name>.+)@v(?P<number>[1-9][0-9]*)$")
OUTCOMES = "outcomes"


@dataclass(frozen=True)
class Version:
    """One published version."""

    name: str
    number: int
    folder: Path

    @property
    def label(self) -> str:
        """`name@vN`."""
        return f"{self.name}@v{self.number}"

    @property
    def pin(self) -> str:
        """The label under which the fact tables are pinned for it."""
        return f"v{self.number}.{self.name}"

    @cached_property
    def manifest(self) -> Manifest:
        """The whole manifest. Raises DamageError when it is not what was written."""
        remedy = f"rebuild the version or restore {self.folder}"
        try:
            manifest: Manifest = json.loads((self.folder / "manifest.json").read_bytes())
            intact = content_hash(manifest["content"]) == manifest["content_hash"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DamageError(f"manifest of {self.label} cannot be read ({error}): {remedy}") from None
        if not intact:
            raise DamageError(f"manifest of {self.label} is not what was written: {remedy}")
        return manifest

    @property
    def content(self) -> Content:
        """What the version is: recipe, ledger, files and their hashes."""
        return self.manifest["content"]

    @property
    def provenance(self) -> Provenance:
        """Who made it, when, where, and from which recipe as it was written."""
        return self.manifest["provenance"]

    @property
    def files(self) -> dict[str, FileEntry]:
        """The data files by name without `.arrow`: the splits, and `outcomes`."""
        return self.content["files"]

    @property
    def ledger(self) -> list[StageAccount]:
        """The accounts of its build, stage by stage. Raises LedgerError when they do not add up."""
        accounts = [StageAccount(**entry) for entry in self.content["ledger"]]
        for account in accounts:
            account.check()
        return accounts

    @property
    def splits(self) -> dict[str, int]:
        """Rows per split."""
        return {name: entry["rows"] for name, entry in self.files.items() if name != OUTCOMES}

    @property
    def pins(self) -> dict[str, int]:
        """The version of each fact table it was made from."""
        return self.manifest["pins"]

    def path(self, file: str) -> Path:
        """Where a split or the outcomes lie."""
        return self.folder / f"{file}.arrow"

    def frame(self, split: str | None = None) -> pl.LazyFrame:
        """The rows of one split, or of all with a column `split`."""
        if split is None:
            return pl.concat([self.frame(name).with_columns(split=pl.lit(name)) for name in self.splits])
        if split not in self.splits:
            raise NotFoundError(f"split {split!r} is not in {self.label}{suggestion(split, list(self.splits))}")
        return pl.scan_ipc(self.path(split))

    def outcomes(self) -> pl.LazyFrame:
        """The rows that were dropped: `stage`, `outcome`, `id` (16 bytes), `prompt_id`, `detail`."""
        return pl.scan_ipc(self.path(OUTCOMES))


def write_rows(path: Path, rows: pa.Table, id_column: str) -> FileEntry:
    """Writes an Arrow file whose bytes depend on the values only, with a `row_hash` per row, and the ids beside it."""
    rows = _normalised(rows)
    rows = rows.append_column("row_hash", pa.array(row_hashes(rows, rows.column_names)))
    ids = id_words(one_array(rows[id_column].fill_null(bytes(ID_BYTES)))).tobytes()
    with disk_trouble(path):
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
            writer.write_table(rows, max_chunksize=BATCH_ROWS)
        path.with_suffix(".ids").write_bytes(ids)
    return {
        "rows": rows.num_rows,
        "blake2b": file_hash(path),
        "ids_blake2b": file_hash(path.with_suffix(".ids")),
    }


def file_hash(path: Path) -> str:
    """64 hex digits over a file's bytes (BLAKE2b)."""
    digest = blake2b(digest_size=32)
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()


def _normalised(rows: pa.Table) -> pa.Table:
    """One chunk per column, no offsets, and the same bytes under every null."""
    return (
        pa.table({name: _plain(rows[name].combine_chunks()) for name in rows.column_names})
        if rows.num_columns
        else rows
    )


def _plain(array: pa.Array) -> pa.Array:
    array = pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array
    if pa.types.is_struct(array.type):
        fields = [_plain(child) for child in array.flatten()]
        return pa.StructArray.from_arrays(
            fields, fields=list(array.type), mask=array.is_null() if array.null_count else None
        )
    return pc.take(array, pa.array(np.arange(len(array)))) if array.null_count else array


@dataclass(frozen=True)
class Versions:
    """All versions of a workspace, and its tags."""

    root: Path
    """The `.prefkit` folder."""

    def names(self) -> list[str]:
        """Names that have at least one version."""
        return sorted(p.name for p in (self.root / "versions").glob("*") if self.all(p.name))

    def all(self, name: str) -> list[Version]:
        """The versions of a name, oldest first."""
        folders = (self.root / "versions" / name).glob("v*")
        numbers = sorted(int(p.name[1:]) for p in folders if p.name[1:].isdigit() and (p / "manifest.json").exists())
        return [self._version(name, n) for n in numbers]

    def newest(self, name: str) -> Version | None:
        """The newest version of a name, if there is one."""
        versions = self.all(name)
        return versions[-1] if versions else None

    def get(self, label: str) -> Version:
        """The version a label means: `name@v2`, a tag, or a name (its newest). Raises NotFoundError."""
        label = self.tags().get(label, label)
        if match := LABEL.match(label):
            version = self._version(match["name"], int(match["number"]))
            if (version.folder / "manifest.json").exists():
                return version
        elif newest := self.newest(label):
            return newest
        known = [*self.names(), *self.tags(), *(v.label for n in self.names() for v in self.all(n))]
        hint = suggestion(label, known) if known else "; there is none yet, run `prefkit build`"
        raise NotFoundError(f"version {label!r} does not exist{hint}")

    def _version(self, name: str, number: int) -> Version:
        return Version(name, number, self.root / "versions" / name / f"v{number}")

    def next(self, name: str) -> Version:
        """The version that the next publication of a name will be."""
        newest = self.newest(name)
        return self._version(name, newest.number + 1 if newest else 1)

    def draft(self) -> Path:
        """A new empty folder to write a version in."""
        folder = self.root / "tmp" / f"version-{uuid.uuid4().hex}"
        with disk_trouble(folder):
            folder.mkdir(parents=True)
        return folder

    def publish(
        self, version: Version, draft: Path, content: Content, pins: Mapping[str, int], provenance: Provenance
    ) -> Version:
        """Makes a draft the given version. The caller builds alone under this name, so the number is free."""
        manifest: Manifest = {
            "format": FORMAT,
            "label": version.label,
            "content": content,
            "content_hash": content_hash(content),
            "pins": dict(pins),
            "provenance": provenance,
        }
        write_durably(draft / "manifest.json", json.dumps(manifest, indent=1, ensure_ascii=False).encode())
        if not publish_folder(draft, version.folder):
            raise DamageError(
                f"{version.folder} is in the way of {version.label} and holds no manifest: move it away and build again"
            )
        return version

    def tags(self) -> dict[str, str]:
        """Tag to version label."""
        path = self.root / "tags.json"
        return json.loads(path.read_bytes()) if path.exists() else {}

    def tag(self, tag: str, version: Version) -> None:
        """Names a version; a tag that exists moves."""
        write_durably(self.root / "tags.json", json.dumps(self.tags() | {tag: version.label}, indent=1).encode())

    def untag(self, tag: str) -> None:
        """Takes a tag away; the version stays."""
        left = {name: label for name, label in self.tags().items() if name != tag}
        write_durably(self.root / "tags.json", json.dumps(left, indent=1).encode())

    def remove(self, version: Version) -> int:
        """Removes a version and returns the bytes freed: out of sight in one step, then away."""
        grave = self.root / "tmp" / f"removed-{uuid.uuid4().hex}"
        version.folder.rename(grave)
        return remove_tree(grave)
