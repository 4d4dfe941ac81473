"""Source files: JSON Lines, JSON, CSV, TSV and Parquet, each also compressed (`.gz`, `.zst`).

A row that cannot be read is an outcome row beside its siblings (see `prefkit.sources.rows`). A file that cannot be read
as a whole is a SourceError in one line; a Parquet file is read whole or not at all.
"""

import gzip
import io
import json
import zlib
from collections.abc import Callable, Mapping
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import TypeAlias

import polars as pl
import pyarrow as pa
from polars.exceptions import PolarsError

from prefkit.errors import SourceError, suggestion
from prefkit.identity import content_id
from prefkit.sources.delimited import read_csv, read_tsv
from prefkit.sources.hub import HubName, hub_fingerprint, hub_name, read_hub
from prefkit.sources.json_lines import read_json, read_json_lines
from prefkit.sources.rows import SourceRows, source_rows

Reader: TypeAlias = Callable[[bytes, str], SourceRows]
"""From a file's bytes and name to its rows."""
Decompressor: TypeAlias = Callable[[bytes, str], bytes]

_UTF8_BOM = b"\xef\xbb\xbf"
_PARQUET = b"PAR1"
_OTHER_KINDS = {
    b"PK\x03\x04": ("a ZIP archive or an Excel workbook", "unpack it, or export it as CSV"),
    b"\xd0\xcf\x11\xe0": ("an Office document of the old kind", "export it as CSV"),
    b"\x1f\x8b": ("gzip data", "unpack it, or add .gz to its name"),
    _PARQUET: ("a Parquet file", "give its name the ending .parquet"),
    b"version https://git-lfs": ("a Git LFS pointer, not the file itself", "run `git lfs pull`"),
}
"""How files begin that come under a wrong name."""


def read_rows(path: str | Path) -> SourceRows:
    """The rows of a file, or of a Hub dataset (see `prefkit.sources.hub`).

    Raises SourceError for one that is missing, empty, damaged or of an unknown kind.
    """
    file = Path(path)
    if name := _hub_source(file):
        return read_hub(name.repo, subset=name.subset, split=name.split, revision=name.revision)
    reader, decompress = _reader(file)
    data = _bytes(file)
    if decompress is not None:
        data = decompress(data, str(path))
    if not data:
        raise SourceError(f"{path} is empty (an empty dataset), expected rows: check how the file was written")
    if reader is not _read_parquet or not data.startswith(_PARQUET):
        _refuse_other_kinds(data, str(path))
    return reader(data, str(path))


def file_fingerprint(path: str | Path, mapping: Mapping[str, str]) -> str:
    """32 hex digits that stay the same as long as the file's bytes, or the dataset's commit, and the mapping do."""
    if name := _hub_source(Path(path)):
        return hub_fingerprint(name, mapping)
    try:
        with Path(path).open("rb") as file:
            digest = file_digest(file, blake2b).hexdigest()
    except OSError as error:
        raise _unreadable(Path(path), error) from None
    return content_id("import", {"file": digest, "map": dict(mapping)}).hex()


def _refuse_other_kinds(data: bytes, name: str) -> None:
    for beginning, (kind, remedy) in _OTHER_KINDS.items():
        if data.startswith(beginning):
            raise SourceError(f"{name} is {kind}, expected what its ending says: {remedy}")


def looks_like_hub_id(path: str) -> bool:
    """Whether a path has the form of a Hub dataset's name and not of a file of a kind we read."""
    return hub_name(path) is not None and not any(s.lower() in READERS for s in Path(path).suffixes)


def _hub_source(path: Path) -> HubName | None:
    """The Hub dataset that a path means: one that has the form of its name and is nothing on this disk."""
    name = hub_name(str(path)) if looks_like_hub_id(str(path)) else None
    if name is None or path.exists():
        return None
    is_bare = str(name) == name.repo
    return None if is_bare and path.parent.exists() else name


def _read_text(read: Reader) -> Reader:
    def checked(data: bytes, name: str) -> SourceRows:
        encoding = json.detect_encoding(data)
        if not encoding.startswith("utf-8"):
            raise SourceError(f"{name} is {encoding.upper()}, expected UTF-8: save it as UTF-8")
        return read(data.removeprefix(_UTF8_BOM), name)

    return checked


def _read_parquet(data: bytes, name: str) -> SourceRows:
    try:
        frame = pl.read_parquet(io.BytesIO(data))
    except (PolarsError, OSError) as error:
        raise SourceError(f"{name} is no readable Parquet file: {_first_line(error)}") from None
    return source_rows(name, range(1, len(frame) + 1), frame, frozenset(), [])


def _gunzip(data: bytes, name: str) -> bytes:
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise SourceError(f"{name} cannot be unpacked ({_first_line(error)}): download or write it again") from None


def _unzstd(data: bytes, name: str) -> bytes:
    try:
        return pa.CompressedInputStream(pa.BufferReader(data), "zstd").read()
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{name} cannot be unpacked ({_first_line(error)}): download or write it again") from None


READERS: dict[str, Reader] = {
    ".jsonl": _read_text(read_json_lines),
    ".ndjson": _read_text(read_json_lines),
    ".json": _read_text(read_json),
    ".csv": _read_text(read_csv),
    ".tsv": _read_text(read_tsv),
    ".parquet": _read_parquet,
}
DECOMPRESSORS: dict[str, Decompressor] = {".gz": _gunzip, ".zst": _unzstd}


def _reader(file: Path) -> tuple[Reader, Decompressor | None]:
    suffixes = [suffix.lower() for suffix in file.suffixes]
    packing = suffixes.pop() if suffixes and suffixes[-1] in DECOMPRESSORS else None
    suffix = suffixes[-1] if suffixes else ""
    if suffix in READERS:
        return READERS[suffix], DECOMPRESSORS[packing] if packing else None
    if file.is_dir():
        raise SourceError(f"{file} is a folder, expected a file: name one of its files")
    raise SourceError(
        f"{file} has the extension {suffix or 'none'!r}, expected one of {', '.join(READERS)} (also with .gz or .zst): "
        "rename or convert it"
    )


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise _unreadable(file, error) from None


def _unreadable(file: Path, error: OSError) -> SourceError:
    match error:
        case FileNotFoundError():
            siblings = [p.name for p in file.parent.glob("*")] if file.parent.is_dir() else []
            near = suggestion(file.name, siblings)
            return SourceError(f"{file} does not exist, expected a file{near if 'did you mean' in near else ''}")
        case IsADirectoryError():
            return SourceError(f"{file} is a folder, expected a file: name one of its files")
        case _:
            return SourceError(f"{file} cannot be read: {error.strerror}")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
