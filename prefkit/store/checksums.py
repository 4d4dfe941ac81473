"""Checksums of files, against silent damage: neither Lance nor Arrow checks the values it reads back."""

from pathlib import Path

from xxhash import xxh3_128

_CHUNK = 1 << 22


def file_checksum(path: Path) -> str:
    """32 hex digits over the file's bytes (XXH3, 128 bits)."""
    digest = xxh3_128()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
