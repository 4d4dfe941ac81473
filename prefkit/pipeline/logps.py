"""Log-probs of completions under a reference model, as facts: what is stored is read, the rest is computed and stored.

A log-prob is keyed by (completion, prompt, model, the tokens as trained, number format), so another longest length or
template computes anew exactly the completions whose tokens changed.
"""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import polars as pl
import pyarrow as pa

from prefkit.errors import LedgerError
from prefkit.identity import ID_BYTES
from prefkit.pipeline.progress import Progress
from prefkit.records import LOGPS
from prefkit.row_keys import logp_ids
from prefkit.shift.protocol import Logprobs, ReferenceModel, Text, Trained
from prefkit.store.facts import FactStore, settled

CHUNK = 4_096
"""Completions whose tokens are held at once."""


def reference_logps(
    facts: FactStore, model: ReferenceModel, dtype: str, texts: pl.DataFrame, max_length: int | None, progress: Progress
) -> pl.DataFrame:
    """`completion_id`, `logps` (their sum, null where no token is left), `tokens`, `cut`; a row per text, in order.

    `texts`: `completion_id`, `prompt_id`, `prompt` and `completion` (messages), `token_ids` (null when unknown).
    """
    parts = [
        _chunk(facts, model, dtype, texts.slice(start, CHUNK), max_length, progress)
        for start in range(0, texts.height, CHUNK)
    ]
    return pl.concat(parts)


def tokens_id(trained: Trained) -> bytes:
    """The id of the tokens as trained: those of the prompt, and those of the completion."""
    digest = blake2b(digest_size=ID_BYTES, person=b"tokens")
    for ids in (trained.prompt_ids, trained.completion_ids):
        digest.update(len(ids).to_bytes(8, "little"))
        digest.update(np.asarray(ids, np.int32).tobytes())
    return digest.digest()


def _chunk(
    facts: FactStore, model: ReferenceModel, dtype: str, texts: pl.DataFrame, max_length: int | None, progress: Progress
) -> pl.DataFrame:
    trained = model.trained([_text(row) for row in texts.iter_rows(named=True)], max_length)
    keys = texts.select("completion_id", "prompt_id").with_columns(
        pl.Series("tokens_id", [tokens_id(t) for t in trained], pl.Binary),
        pl.Series("tokens", [t.tokens for t in trained], pl.Int64),
        pl.Series("cut", [t.cut > 0 for t in trained], pl.Boolean),
        model_id=pl.lit(model.model_id),
        dtype=pl.lit(dtype),
    )
    ids = logp_ids(keys.to_arrow(compat_level=pl.CompatLevel.oldest()))
    keys = keys.with_columns(id=pl.Series(ids, dtype=pl.Binary))
    known = _known(facts, keys["id"])
    missing = keys.with_row_index().join(known, on="id", how="anti").filter(pl.col("tokens") > 0)
    progress.stage("log-probs", keys.height, missing.height)
    by_id = dict(zip(missing["completion_id"], missing.iter_rows(named=True), strict=True))
    for batch in model.logprobs([trained[i] for i in missing["index"]]):
        facts.append(LOGPS, _rows(batch, [by_id.pop(found.id) for found in batch]))
        progress.advance(len(batch))
    if by_id:
        raise LedgerError(f"the reference left {len(by_id)} of {missing.height} completions unscored, expected none")
    found = _known(facts, keys["id"]) if missing.height else known
    return keys.join(found, on="id", how="left", maintain_order="left").select(
        "completion_id", "logps", "tokens", "cut"
    )


def _known(facts: FactStore, ids: pl.Series) -> pl.DataFrame:
    return settled(facts.gather(LOGPS, ["id", "batch_id", "logps"], ids, facts.heads()[LOGPS.name])).select(
        "id", "logps"
    )


def _text(row: dict[str, object]) -> Text:
    return Text(*(row[name] for name in ("completion_id", "prompt", "completion", "token_ids")))  # type: ignore[arg-type]


def _rows(batch: Sequence[Logprobs], keys: Sequence[dict[str, object]]) -> pa.Table:
    names = ("id", "completion_id", "prompt_id", "model_id", "tokens_id", "dtype")
    rows = [
        {name: key[name] for name in names} | {"logps": float(sum(found.logprobs)), "count": len(found.logprobs)}
        for found, key in zip(batch, keys, strict=True)
    ]
    fields = [field for field in LOGPS.schema if field.name not in ("batch_id", "row_hash")]
    return pa.Table.from_pylist(rows, schema=pa.schema(fields))
