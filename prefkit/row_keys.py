"""The ids of facts, from the columns of their keys (see `prefkit.records`), for many rows at once.

Names in a key (a policy, an aspect, an order) count as the content ids of their text, so a row has a fixed number of
words and its id does not depend on the batch it was made in.
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from prefkit.identity import Words, content_id, id_words, row_ids

Integers: TypeAlias = npt.NDArray[np.integer]


def completion_ids(
    prompt_ids: pa.Array,
    policies: Words,
    policy_versions: Integers | int,
    sampler_ids: Integers | int,
    sample_indexes: Integers,
) -> pa.Array:
    """The ids of completions. `policies` has shape [rows, 2] or, for one policy, [1, 2]; see `name_words`."""
    rows = len(prompt_ids)
    numbers = [_words(column, rows) for column in (policy_versions, sampler_ids, sample_indexes)]
    return row_ids(id_words(prompt_ids), np.broadcast_to(policies, (rows, 2)), *numbers)


def score_ids(rows: pa.Table) -> pa.Array:
    """The ids of score rows."""
    numbers = [_words(rows[name].to_numpy(), rows.num_rows) for name in ("scorer_id", "repeat", "input_id")]
    return row_ids(id_words(rows["completion_id"].combine_chunks()), name_words("aspect", rows["aspect"]), *numbers)


def comparison_ids(rows: pa.Table) -> pa.Array:
    """The ids of comparison rows."""
    sides = [id_words(rows[name].combine_chunks()) for name in ("completion_a", "completion_b")]
    names = [name_words(name, rows[name]) for name in ("aspect", "order")]
    numbers = [_words(rows[name].to_numpy(), rows.num_rows) for name in ("scorer_id", "repeat", "input_id")]
    return row_ids(*sides, *names, *numbers)


def trained_ids(rows: pa.Table) -> pa.Array:
    """The ids of rows that say what a trainer sees of a completion."""
    things = [id_words(rows[name].combine_chunks()) for name in ("completion_id", "prompt_id")]
    length = _words(rows["max_length"].to_numpy(), rows.num_rows)
    return row_ids(*things, name_words("policy", rows["model_id"]), length)


def logp_ids(rows: pa.Table) -> pa.Array:
    """The ids of log-prob rows."""
    things = [id_words(rows[name].combine_chunks()) for name in ("completion_id", "prompt_id", "tokens_id")]
    return row_ids(
        *things, *(name_words(kind, rows[name]) for kind, name in (("policy", "model_id"), ("dtype", "dtype")))
    )


def name_words(kind: str, names: pa.Array | pa.ChunkedArray) -> Words:
    """A column of names, few of them distinct, as the words of their content ids; shape [rows, 2]."""
    encoded = (names.combine_chunks() if isinstance(names, pa.ChunkedArray) else names).dictionary_encode()
    distinct = pa.array([content_id(kind, name) for name in encoded.dictionary.to_pylist()], pa.binary(16))
    return id_words(distinct)[encoded.indices.to_numpy()]


def _words(column: Integers | int, rows: int) -> Words:
    return np.broadcast_to(np.asarray(column, np.int64).view(np.uint64), rows)


def config_row_id(kind: str, number: int | None, name: str) -> bytes:
    """The id of a row of the configs table."""
    return content_id("config", [kind, number, name])
