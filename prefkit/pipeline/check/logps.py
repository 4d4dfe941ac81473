"""Log-probs of completions under a reference model, as facts: what is stored is read, the rest is computed and stored.

Two facts a completion. What a trainer sees of it is keyed by (completion, prompt, model, longest length); its log-prob
by (completion, prompt, model, the tokens as trained, number format). So the first two tell, without a tokenizer, which
log-prob is meant, and another longest length computes anew exactly the completions whose tokens changed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import polars as pl
import pyarrow as pa

from prefkit.errors import LedgerError
from prefkit.identity import ID_BYTES
from prefkit.pipeline.check.yardstick import Yardstick
from prefkit.records import COMPLETIONS, LOGPS, PROMPTS, TRAINED, FactTable
from prefkit.row_keys import logp_ids, trained_ids
from prefkit.shift.protocol import Logprobs, ReferenceModel, Text, Trained
from prefkit.store.facts import FactStore, settled

CHUNK = 4_096
"""Completions whose tokens are held at once."""
GATHERED = 16 * CHUNK
"""Completions whose texts are held at once: finding them costs a pass over the table."""


def known_logps(facts: FactStore, yardstick: Yardstick, texts: pl.DataFrame, at: Mapping[str, int]) -> pl.DataFrame:
    """The texts (`completion_id`, `prompt_id`) with `tokens`, `cut`, `retokenised` and `logps`, in their order.

    Null is what no fact says; of a completion without a token there is no `logps` to know.
    """
    keys = texts.select("completion_id", "prompt_id").with_columns(
        model_id=pl.lit(yardstick.model_id), max_length=pl.lit(yardstick.config.max_length, pl.Int64)
    )
    columns = ["tokens_id", "count", "cut", "retokenised"]
    keys = _joined(facts, TRAINED, keys, trained_ids, columns, at)
    found = keys.filter(pl.col("count") > 0).with_columns(dtype=pl.lit(yardstick.config.dtype))
    logps = _joined(facts, LOGPS, found, logp_ids, ["logps"], at).select("completion_id", "logps")
    return keys.join(logps, on="completion_id", how="left", maintain_order="left").select(
        "completion_id", "prompt_id", "retokenised", "logps",
        tokens=pl.col("count").cast(pl.Int64), cut=pl.col("cut") > 0,
    )  # fmt: skip


def unknown(known: pl.DataFrame) -> pl.DataFrame:
    """The texts of which something must be computed."""
    return known.filter(pl.col("tokens").is_null() | ((pl.col("tokens") > 0) & pl.col("logps").is_null()))


@dataclass(frozen=True, slots=True)
class Scoring:
    """Scores completions under a reference and stores every batch as it finishes."""

    facts: FactStore
    model: ReferenceModel
    yardstick: Yardstick
    advance: Callable[[int], None]
    """Told how many more are durable."""

    def score(self, missing: pl.DataFrame) -> None:
        """Scores what `unknown` gave. Raises SourceError or RecipeError for texts that the reference cannot read."""
        # Completions of one prompt are fastest when they come together.
        missing = missing.sort("prompt_id", "completion_id")
        at = self.facts.heads()
        for start in range(0, missing.height, GATHERED):
            part = missing.slice(start, GATHERED)
            texts = _texts(self.facts, part, at)
            for first in range(0, part.height, CHUNK):
                self._chunk(part.slice(first, CHUNK), texts, at)

    def _chunk(self, missing: pl.DataFrame, texts: Mapping[bytes, Text], at: Mapping[str, int]) -> None:
        asked = [texts[i] for i in missing["completion_id"]]
        trained = self.model.trained(asked, self.yardstick.config.max_length)
        keys = _keys(missing, trained, self.yardstick)
        self._store_trained(keys.filter(missing["tokens"].is_null()))
        keys = keys.with_row_index().with_columns(id=pl.Series(logp_ids(_arrow(keys)), dtype=pl.Binary))
        stored = self.facts.gather(LOGPS, ["id"], keys["id"], at[LOGPS.name]).unique()
        left = keys.filter(pl.col("count") > 0).join(stored, on="id", how="anti")
        self.advance(missing.height - left.height)
        by_id = dict(zip(left["completion_id"], left.iter_rows(named=True), strict=True))
        for batch in self.model.logprobs([trained[i] for i in left["index"]]):
            self.facts.append(LOGPS, _logps(batch, [by_id.pop(found.id) for found in batch]))
            self.advance(len(batch))
        if by_id:
            raise LedgerError(f"the reference left {len(by_id)} of {left.height} completions unscored, expected none")

    def _store_trained(self, keys: pl.DataFrame) -> None:
        if keys.height:
            rows = keys.with_columns(id=pl.Series(trained_ids(_arrow(keys)), dtype=pl.Binary))
            schema = _unstamped(TRAINED)
            self.facts.append(TRAINED, _arrow(rows.select(schema.names)).cast(schema))


def tokens_id(trained: Trained) -> bytes:
    """The id of the tokens as trained: those of the prompt, and those of the completion."""
    digest = blake2b(digest_size=ID_BYTES, person=b"tokens")
    for ids in (trained.prompt_ids, trained.completion_ids):
        digest.update(len(ids).to_bytes(8, "little"))
        digest.update(np.asarray(ids, np.int32).tobytes())
    return digest.digest()


def _joined(
    facts: FactStore,
    table: FactTable,
    keys: pl.DataFrame,
    ids_of: Callable[[pa.Table], pa.Array],
    columns: Sequence[str],
    at: Mapping[str, int],
) -> pl.DataFrame:
    ids = pl.Series(ids_of(_arrow(keys)), dtype=pl.Binary)
    found = settled(facts.gather(table, ["id", "batch_id", *columns], ids, at[table.name])).select("id", *columns)
    return keys.with_columns(id=ids).join(found, on="id", how="left", maintain_order="left").drop("id")


def _keys(missing: pl.DataFrame, trained: Sequence[Trained], yardstick: Yardstick) -> pl.DataFrame:
    return missing.select("completion_id", "prompt_id").with_columns(
        pl.Series("tokens_id", [tokens_id(t) for t in trained], pl.Binary),
        pl.Series("count", [t.tokens for t in trained], pl.Int32),
        pl.Series("cut", [t.cut for t in trained], pl.Int32),
        pl.Series("retokenised", [t.retokenised for t in trained], pl.Boolean),
        model_id=pl.lit(yardstick.model_id),
        max_length=pl.lit(yardstick.config.max_length, pl.Int64),
        dtype=pl.lit(yardstick.config.dtype),
    )


def _texts(facts: FactStore, part: pl.DataFrame, at: Mapping[str, int]) -> dict[bytes, Text]:
    columns = ["id", "batch_id", "transient", "attempt", "completion", "token_ids"]
    found = settled(facts.gather(COMPLETIONS, columns, part["completion_id"], at[COMPLETIONS.name]))
    prompts = settled(
        facts.gather(PROMPTS, ["id", "batch_id", "messages"], part["prompt_id"].unique(), at[PROMPTS.name])
    )
    rows = (
        part.select("completion_id", "prompt_id")
        .join(found, left_on="completion_id", right_on="id", how="left")
        .join(prompts.select("messages", prompt_id="id"), on="prompt_id", how="left")
        .select("completion_id", "messages", "completion", "token_ids")
    )
    return {key: Text(key, prompt, completion, ids) for key, prompt, completion, ids in rows.iter_rows()}


def _logps(batch: Sequence[Logprobs], keys: Sequence[dict[str, object]]) -> pa.Table:
    names = ("id", "completion_id", "prompt_id", "model_id", "tokens_id", "dtype")
    rows = [
        {name: key[name] for name in names} | {"logps": float(sum(found.logprobs)), "count": len(found.logprobs)}
        for found, key in zip(batch, keys, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=_unstamped(LOGPS))


def _unstamped(table: FactTable) -> pa.Schema:
    return pa.schema([column for column in table.schema if column.name not in ("batch_id", "row_hash")])


def _arrow(rows: pl.DataFrame) -> pa.Table:
    return rows.to_arrow(compat_level=pl.CompatLevel.oldest())
