"""What is known about each data file of a fact table: its checksum, and the ids of its rows in order.

One JSON line per file, appended and fsynced before the file is committed, so every file a table can read has a line.
The ids are kept a second time so that `verify` can name the rows of a file that cannot be read at all.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from lance.fragment import FragmentMetadata

from prefkit.store.checksums import file_checksum
from prefkit.store.files import append_durably, fsync_file, fsync_folder, write_durably


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A data file as it was written."""

    name: str
    checksum: str
    ids: bytes
    """The 16-byte ids of its rows, one after the other."""


@dataclass(frozen=True, slots=True)
class DataFiles:
    """The data files in `folder` and the ledger of their checksums, `sums`."""

    folder: Path
    sums: Path

    def record(self, fragments: Sequence[FragmentMetadata], ids: pa.ChunkedArray) -> None:
        """Brings the fragments' files to the disk and notes them down; `ids` are those of all their rows, in order."""
        start = 0
        for fragment in fragments:
            (name,) = (f.path for f in fragment.files)
            fsync_file(self.folder / name)
            own = ids.slice(start, fragment.physical_rows)
            start += fragment.physical_rows
            line = {"file": name, "xxh3": file_checksum(self.folder / name), "ids": b64encode(_bytes(own)).decode()}
            append_durably(self.sums, json.dumps(line).encode())
        fsync_folder(self.folder)

    def known(self) -> list[KnownFile]:
        """Every file that was written down; torn lines of a crash are skipped (their files were never committed)."""
        return list(self._entries().values())

    def _entries(self) -> dict[str, KnownFile]:
        entries: dict[str, KnownFile] = {}
        for line in self.sums.read_bytes().split(b"\n") if self.sums.exists() else ():
            try:
                entry = json.loads(line)
                known = KnownFile(entry["file"], entry["xxh3"], b64decode(entry["ids"]))
            except (ValueError, KeyError, TypeError):
                continue
            entries[known.name] = known
        return entries

    def forget_missing(self) -> None:
        """Drops the lines of files that are gone. Needs the workspace alone."""
        if self.sums.exists():
            lines = [
                json.dumps({"file": k.name, "xxh3": k.checksum, "ids": b64encode(k.ids).decode()})
                for k in self.known()
                if (self.folder / k.name).exists()
            ]
            write_durably(self.sums, ("\n".join(lines) + "\n").encode())


def _bytes(ids: pa.ChunkedArray) -> bytes:
    return b"".join(
        bytes(chunk.buffers()[1])[chunk.offset * 16 : (chunk.offset + len(chunk)) * 16]
        for chunk in ids.chunks
        if len(chunk)
    )
