"""What makes two things the same: canonical JSON, content ids, and vectorised row ids.

Three ids, all content-derived, none random:

* `content_id`, 16 bytes, for things people name: prompts, recipes. BLAKE2b of canonical JSON, once per thing.
* `config_id`, a 63-bit integer, for configurations: a small column that joins stay fast on.
* `row_ids`, 16 bytes a row, made for a whole batch at once from the key columns (MurmurHash3 x64 128 in numpy).

Canonical JSON *raises* on what it cannot write the same way twice; it never falls back to `repr` or `str`.
"""

import json
import math
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
Words: TypeAlias = npt.NDArray[np.uint64]

ID_BYTES = 16


def canonical_json(value: Json) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces; equal values give equal bytes in every process and release.

    Raises TypeError or ValueError, naming the place, for anything without one such form: NaN and infinity, lone
    surrogates, keys that are no strings, and every type that JSON does not have.
    """
    _refuse_ambiguous(value, "value")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _refuse_ambiguous(value: object, where: str) -> None:
    match value:
        case None | bool() | int():
            return
        case str():
            _refuse_surrogates(value, where)
        case float():
            if not math.isfinite(value):
                raise ValueError(f"{where} is {value}, which JSON cannot write: use a finite number or null")
        case Mapping():
            for key, item in cast("Mapping[object, object]", value).items():
                if not isinstance(key, str):
                    raise TypeError(f"{where} has the key {key!r} of type {type(key).__name__}: keys must be strings")
                _refuse_surrogates(key, where)
                _refuse_ambiguous(item, f"{where}.{key}")
        case list() | tuple():
            for index, item in enumerate(cast("Sequence[object]", value)):
                _refuse_ambiguous(item, f"{where}[{index}]")
        case _:
            raise TypeError(f"{where} is a {type(value).__name__}, which has no canonical form: convert it first")


def _refuse_surrogates(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{where} holds a lone surrogate at character {error.start}, which UTF-8 cannot write"
        ) from None


def content_id(kind: str, value: Json) -> bytes:
    """The 16-byte id of a value of one kind; the same value under two kinds has two ids."""
    return blake2b(canonical_json(value), digest_size=ID_BYTES, person=kind.encode()).digest()


def config_id(kind: str, value: Json) -> int:
    """The id of a configuration as a positive 63-bit integer, which every engine's signed integer column can hold."""
    return int.from_bytes(content_id(kind, value)[:8], "little") >> 1


def id_words(ids: pa.Array) -> Words:
    """A column of 16-byte ids as two 64-bit words each, shape [rows, 2]."""
    fixed = ids.cast(pa.binary(ID_BYTES))
    data = np.frombuffer(fixed.buffers()[1], dtype="<u8") if len(fixed) else np.empty(0, "<u8")
    return data[fixed.offset * 2 : (fixed.offset + len(fixed)) * 2].reshape(-1, 2).astype(np.uint64, copy=False)


def id_column(words: Words) -> pa.Array:
    """The inverse of `id_words`: words of shape [rows, 2] as an Arrow column of 16-byte ids."""
    data = pa.py_buffer(np.ascontiguousarray(words, dtype="<u8").tobytes())
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(ID_BYTES), len(words), [None, data])


def row_ids(*columns: Words) -> pa.Array:
    """The 16-byte ids of rows whose key is the given word columns, each of shape [rows] or [rows, words].

    MurmurHash3 x64 128 with seed 0 over the row's words in little-endian order (Appleby 2011), so a row's id does not
    depend on the batch it was made in.
    """
    return id_column(hash128(np.concatenate([c[:, None] if c.ndim == 1 else c for c in columns], axis=1)))


_C1, _C2 = np.uint64(0x87C37B91114253D5), np.uint64(0x4CF5AD432745937F)
_FIVE = np.uint64(5)
_ADD1, _ADD2 = np.uint64(0x52DCE729), np.uint64(0x38495AB5)
_MIX1, _MIX2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)


def hash128(words: Words) -> Words:
    """MurmurHash3 x64 128 of each row of 64-bit words, shape [rows, words] to [rows, 2]."""
    rows, width = words.shape
    h1, h2 = np.zeros(rows, np.uint64), np.zeros(rows, np.uint64)
    with np.errstate(over="ignore"):
        for block in range(0, width - 1, 2):
            h1 = _rotate(h1 ^ _scramble(words[:, block], _C1, _C2, 31), 27) + h2
            h1 = h1 * _FIVE + _ADD1
            h2 = _rotate(h2 ^ _scramble(words[:, block + 1], _C2, _C1, 33), 31) + h1
            h2 = h2 * _FIVE + _ADD2
        if width % 2:
            h1 = h1 ^ _scramble(words[:, -1], _C1, _C2, 31)
        length = np.uint64(width * 8)
        h1, h2 = h1 ^ length, h2 ^ length
        h1 = h1 + h2
        h2 = h2 + h1
        h1, h2 = mix64(h1), mix64(h2)
        h1 = h1 + h2
        h2 = h2 + h1
    return np.stack([h1, h2], axis=1)


def mix64(words: Words) -> Words:
    """MurmurHash3's 64-bit finaliser: every input bit moves every output bit. Shape is kept."""
    with np.errstate(over="ignore"):
        words = (words ^ (words >> np.uint64(33))) * _MIX1
        words = (words ^ (words >> np.uint64(33))) * _MIX2
    return words ^ (words >> np.uint64(33))


def _rotate(words: Words, by: int) -> Words:
    return (words << np.uint64(by)) | (words >> np.uint64(64 - by))


def _scramble(words: Words, first: np.uint64, second: np.uint64, by: int) -> Words:
    return _rotate(words * first, by) * second
