"""64-bit hashes of Arrow rows: a row's checksum, and the identity of what a scorer read.

A hash depends on the values and column names only, not on how Arrow chunked, sliced or dictionary-encoded them. Columns
of fixed width are hashed whole; the leaves of variable length go through xxHash one by one.
"""

from itertools import pairwise

import numpy as np
import pyarrow as pa
from xxhash import xxh3_64_intdigest

from prefkit.identity import ID_BYTES, Words, id_words, mix64

_NULL = np.uint64(0x9E3779B97F4A7C15)
_SAMPLE = 256
"""Rows looked at to see whether a text column repeats itself (roles, names): then each text is hashed once."""
_ODD = np.uint64(0xD6E8FEB86659FD93)


def row_hashes(table: pa.Table, columns: list[str]) -> Words:
    """One hash per row over the named columns, shape [rows]; equal rows have equal hashes."""
    total = np.zeros(table.num_rows, np.uint64)
    for name in columns:
        total = mix64(total * _ODD + hashed(one_array(table[name])) + np.uint64(xxh3_64_intdigest(name.encode())))
    return total


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """The column as one array, copied only where it is in several."""
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], column.type)])


def hashed(array: pa.Array) -> Words:
    """One 64-bit hash per element of an Arrow array of any of our types."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        values = _hashed_values(array.dictionary)[array.indices.fill_null(0).to_numpy(zero_copy_only=False)]
    elif pa.types.is_list(kind):
        values = _hashed_lists(array)
    elif pa.types.is_struct(kind):
        values = np.zeros(len(array), np.uint64)
        for field in array.flatten():
            values = mix64(values * _ODD + hashed(field))
    else:
        values = _hashed_values(array)
    return np.where(array.is_valid().to_numpy(zero_copy_only=False), values, _NULL) if array.null_count else values


def _hashed_values(array: pa.Array) -> Words:
    if len(array) == array.null_count:
        return np.full(len(array), _NULL)
    if array.type == pa.binary(ID_BYTES):
        words = id_words(array.fill_null(bytes(ID_BYTES)))
        return mix64(words[:, 0] * _ODD + words[:, 1])
    if pa.types.is_string(array.type) or pa.types.is_binary(array.type):
        repeats = len(array) > _SAMPLE and len(array[:_SAMPLE].unique()) < _SAMPLE // 8
        return hashed(array.dictionary_encode()) if repeats else _hashed_bytes(array)
    if pa.types.is_floating(array.type):
        bits = array.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False).view(np.uint64)
        return mix64(bits + np.uint64(1))
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.int64())
    integers = array.fill_null(0).to_numpy(zero_copy_only=False)
    return mix64(integers.astype(np.int64 if integers.dtype.kind == "i" else np.uint64).view(np.uint64) + np.uint64(2))


def _hashed_bytes(array: pa.Array) -> Words:
    _, offsets, data = array.buffers()
    bounds = np.frombuffer(offsets, np.int32)[array.offset : array.offset + len(array) + 1].tolist()
    view = memoryview(data) if data is not None else memoryview(b"")
    return np.fromiter((xxh3_64_intdigest(view[a:b]) for a, b in pairwise(bounds)), np.uint64, len(array))


def _hashed_lists(array: pa.Array) -> Words:
    lengths = array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    children = hashed(array.flatten())
    starts = np.concatenate([[0], np.cumsum(lengths)])
    places = np.arange(len(children), dtype=np.uint64) - np.repeat(starts[:-1], lengths).astype(np.uint64)
    sums = np.concatenate([[np.uint64(0)], np.cumsum(mix64(children + places * _ODD), dtype=np.uint64)])
    return mix64(sums[starts[1:]] - sums[starts[:-1]] + lengths.astype(np.uint64) * _ODD)
