"""Prompts of the tables: their ids, the keys that name them, and the tasks they make.

A prompt is identified by its messages, so equal prompts of any number of rows, files and spellings (a plain string, a
conversation of one user message) are one prompt. A task is a prompt with what a build needs to know about it: the gold
answer, source, split and metadata. It is identified by all of these: a corrected answer is a new task, and a row that
says the same as an earlier one is a `duplicate`. A table that also holds completions or ratings gives its prompts only
so that these have one: it makes a task of a prompt that no other table has, and one at most.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from prefkit.hashing import row_hashes
from prefkit.identity import id_words, row_ids
from prefkit.records import PROMPTS
from prefkit.sources.conversations import Refusal, plain_prompt_ids, prompt_id
from prefkit.sources.linking.messages import prompt_messages
from prefkit.sources.linking.records import EVERYWHERE, OUTCOMES, first_of, is_told, records, refused, same_as
from prefkit.sources.outcomes import ImportOutcome
from prefkit.sources.shaped import Shaped

SAID = ("answer", "source", "split", "metadata")
"""What a task says beside its prompt."""
_WRITTEN = r"[^\s\x1c-\x1f]"
"""A character that is no white space, as `str.isspace` understands it."""


@dataclass(frozen=True, slots=True)
class LinkedPrompts:
    """What became of the prompts."""

    prompts: pl.DataFrame
    """`id` and `messages` of every prompt in words that is of use."""
    tasks: pl.DataFrame
    """`id`, `prompt_id` and what the task says."""
    keys: pl.DataFrame
    """`scope`, `key` and `prompt_id`: no key of a scope names two prompts."""
    broken: pl.DataFrame
    """`table` and `row` of rows of which a prompt was refused."""
    sound: pl.DataFrame
    """`table`, `row` and `key` of the other prompts of such rows."""
    outcomes: pl.DataFrame

    def of(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Records of any kind with the `prompt_id` of their `prompt`; null where there is none.

        A row whose own prompt was refused has none, even if its key names another row's.
        """
        found = rows.join(
            self.keys, left_on=["scope", "prompt"], right_on=["scope", "key"], how="left", maintain_order="left"
        )
        if self.broken.is_empty():
            return found
        yes = pl.lit(value=True)
        broken, sound = (
            self.broken.with_columns(broken=yes),
            self.sound.rename({"key": "prompt"}).with_columns(sound=yes),
        )
        found = found.join(broken, on=["table", "row"], how="left", maintain_order="left")
        found = found.join(sound, on=["table", "row", "prompt"], how="left", maintain_order="left")
        whole = pl.col("broken").is_null() | pl.col("sound").is_not_null()
        return found.with_columns(pl.when(whole).then("prompt_id")).drop("broken", "sound")


def linked_prompts(
    tables: Sequence[Shaped], source: str, known_keys: pl.DataFrame, known_prompts: pl.Series
) -> LinkedPrompts:
    """The prompts of the tables, after those known before: their keys (`key`, `prompt_id`), and which have tasks."""
    told = [is_told(table) for table in tables]
    rows = records(tables, "prompts").with_columns(
        told=pl.col("table").replace_strict(dict(enumerate(told)), return_dtype=pl.Boolean)
    )
    rows = rows.sort("told", maintain_order=True) if any(told) and not all(told) else rows
    distinct, rows = _identified(rows)
    rows, keys = _keyed(rows, known_keys)
    broken, sound = _broken(rows, refused(tables))
    rows = _tasks(rows, source, known_prompts)
    made = rows.filter(pl.col("outcome") == ImportOutcome.IMPORTED)
    used = pl.concat([made["prompt_id"], keys["prompt_id"]]).unique()
    return LinkedPrompts(
        distinct.filter(pl.col("id").is_in(used.implode())),
        made.select("id", "prompt_id", *SAID),
        keys,
        broken,
        sound,
        rows.with_columns(what=pl.lit("prompts")).select(OUTCOMES.keys()),
    )


def _identified(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The distinct prompts (`id`, `messages`), and the rows with `prompt_id`, or `outcome` and `detail`."""
    distinct = rows.select("kind", "text").unique(maintain_order=True).with_row_index()
    plain = ((distinct["kind"] == "string") & distinct["text"].str.contains(_WRITTEN)).fill_null(value=False)
    read = pl.concat([_plain(distinct.filter(plain)), _parsed(distinct.filter(~plain))]).sort("index").drop("index")
    prompts = read.select("messages", id="prompt_id").drop_nulls("id").unique("id", maintain_order=True, keep="first")
    read = read.drop("messages")
    rows = rows.join(read, on=["kind", "text"], how="left", nulls_equal=True, maintain_order="left")
    return prompts.select("id", "messages"), rows.drop("kind", "text")


def _plain(texts: pl.DataFrame) -> pl.DataFrame:
    """The texts as conversations of one user message."""
    message = pl.struct(role=pl.lit("user"), content="text")
    ids = pl.Series("prompt_id", plain_prompt_ids(texts["text"]), pl.Binary)
    unrefused = pl.lit(None, pl.String)
    return texts.with_columns(ids, messages=pl.concat_list(message), outcome=unrefused, detail=unrefused)


def _parsed(cells: pl.DataFrame) -> pl.DataFrame:
    """The conversations that the cells spell, or why they cannot be prompts."""
    read = [prompt_messages(kind, text) for kind, text in cells.select("kind", "text").iter_rows()]
    messages = pa.array([r if isinstance(r, list) else None for r in read], PROMPTS.schema.field("messages").type)
    return cells.with_columns(
        pl.Series("prompt_id", [prompt_id(r) if isinstance(r, list) else None for r in read], pl.Binary),
        pl.Series("messages", pl.from_arrow(messages)),
        pl.Series("outcome", [r.outcome if isinstance(r, Refusal) else None for r in read], pl.String),
        pl.Series("detail", [r.detail if isinstance(r, Refusal) else None for r in read], pl.String),
    )


def _keyed(rows: pl.DataFrame, known: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows with `conflicting_key` as outcome where it is one, and the keys by scope."""
    usable = (pl.col("scope") == EVERYWHERE) | pl.col("told")
    named = rows.filter(usable, pl.col("key").is_not_null(), pl.col("prompt_id").is_not_null())
    older = known.select(pl.lit(EVERYWHERE, pl.Int32).alias("scope"), "key", "prompt_id")
    keys = pl.concat([older, named.select("scope", "key", "prompt_id")])
    keys = keys.unique(["scope", "key"], keep="first", maintain_order=True)
    if named.is_empty():
        return rows, keys
    owners = keys.rename({"prompt_id": "owner"})
    rows = rows.join(owners, on=["scope", "key"], how="left", maintain_order="left")
    conflict = pl.col("prompt_id") != pl.col("owner")
    why = pl.format("key {} is that of another prompt", pl.col("key").str.slice(0, 80))
    rows = rows.with_columns(
        pl.when(conflict).then(pl.lit(ImportOutcome.CONFLICTING_KEY.value)).otherwise("outcome").alias("outcome"),
        pl.when(conflict).then(why).otherwise("detail").alias("detail"),
    ).drop("owner")
    return rows, keys


def _broken(rows: pl.DataFrame, refused: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of which a prompt was refused, here or before, and the keys of their other prompts."""
    here = rows.filter(pl.col("outcome").is_not_null()).select("table", "row")
    before = refused.filter(pl.col("what") == "prompts").select("table", "row")
    broken = pl.concat([here, before]).unique(maintain_order=True)
    left = rows.filter(pl.col("outcome").is_null(), pl.col("key").is_not_null()).select("table", "row", "key")
    return broken, left.join(broken, on=["table", "row"], how="semi").unique(maintain_order=True)


def _tasks(rows: pl.DataFrame, source: str, known: pl.Series) -> pl.DataFrame:
    """The rows with the `id` of their task, and an outcome in every row."""
    part = pl.col("source")
    named = pl.when(part.is_null()).then(pl.lit(source)).otherwise(pl.concat_str(pl.lit(f"{source}/"), part))
    usable = rows.filter(pl.col("outcome").is_null()).with_columns(source=named)
    said = usable.select(SAID).to_arrow(compat_level=pl.CompatLevel.oldest())
    strings = said.cast(pa.schema([(name, pa.string()) for name in SAID]))
    ids = row_ids(id_words(usable["prompt_id"].to_arrow()), row_hashes(strings, list(SAID)))
    # A told row stands for its prompt, whatever it says of it; the others came first and stand for their task.
    group = pl.when(pl.col("told")).then("prompt_id").otherwise("id")
    usable = usable.with_columns(id=pl.Series(ids, dtype=pl.Binary)).with_columns(group=group)
    again, where = same_as("group")
    elsewhere = usable.filter(~pl.col("told"))["prompt_id"].append(known).unique()
    there = pl.col("told") & pl.col("prompt_id").is_in(elsewhere.implode())
    outcome, detail = first_of(
        [
            (again, ImportOutcome.DUPLICATE, where),
            (there, ImportOutcome.DUPLICATE, pl.lit("its prompt has a task already")),
            (pl.lit(value=True), ImportOutcome.IMPORTED, None),
        ]
    )
    usable = usable.with_columns(outcome, detail).drop("group")
    return pl.concat([usable, rows.filter(pl.col("outcome").is_not_null())], how="diagonal")
