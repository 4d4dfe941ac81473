"""What a recording is made of: the events of a run, and each as bytes.

An event is a small JSON head, padded so that Arrow data begins at a multiple of eight, and then its tables, one Arrow
IPC stream after the other; read back, the tables are views of the bytes.
"""

import json
from dataclasses import asdict, dataclass
from typing import TypeAlias

import pyarrow as pa

from prefkit.stream.protocol import MicroBatch

FORMAT = 2


@dataclass(frozen=True, slots=True)
class Base:
    """So many frames of this attempt stand before those of a later one."""

    attempt: int
    frames: int


@dataclass(frozen=True, slots=True)
class Start:
    """An attempt begins; always frame 0 of its file."""

    run_id: str
    attempt: int
    base: Base | None = None
    """Which attempt it continues; None begins from nothing."""
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class NewRows:
    """A micro-batch was drawn; its rows wait to be served, in order."""

    first_row: int
    """The number of its first row: how many rows of the chain came before it."""
    batch: MicroBatch
    source: str = ""
    """Which source of a mix it came from; empty without a mix."""


@dataclass(frozen=True, slots=True)
class Serve:
    """Of a mix, these waiting rows are served next. Without a mix, rows are served in the order they were recorded."""

    rows: tuple[int, ...]
    """Their numbers, in order."""


@dataclass(frozen=True, slots=True)
class Sync:
    """After this step the sampler got new weights."""

    step: int
    policy_version: int
    digest: str
    """Of the weights, as the learner tells it."""
    stale: tuple[int, ...] = ()
    """Numbers of the waiting rows that are dropped: outcome `stale_at_sync`."""


@dataclass(frozen=True, slots=True)
class Drop:
    """After this step, at which there was no sync, waiting rows had become too stale."""

    step: int
    stale: tuple[int, ...]
    """Their numbers: outcome `stale_at_sync` too."""


@dataclass(frozen=True, slots=True)
class Reset:
    """After this step the reference model got the learner's weights."""

    step: int
    digest: str


@dataclass(frozen=True, slots=True)
class End:
    """Training is over, as far as it was asked for; a run that is extended goes on after it."""

    step: int
    rows_served: int
    """Of the chain, since its beginning."""


Event: TypeAlias = Start | NewRows | Serve | Sync | Drop | Reset | End

_KIND = {
    Start: "start", NewRows: "micro_batch", Serve: "serve", Sync: "sync", Drop: "drop", Reset: "reset", End: "end",
}  # fmt: skip


def encode(event: Event) -> bytes:
    """The event as bytes. Raises ValueError for a number that is not finite."""
    if isinstance(event, NewRows):
        batch = event.batch
        tables = [("", _stream(batch.rows)), *((name, _stream(table)) for name, table in batch.facts.items())]
        head = {
            "first_row": event.first_row,
            "source": event.source,
            "cursor": batch.cursor,
            "prompts": batch.prompts,
            "policy_version": batch.policy_version,
            "outcomes": {stage: dict(counts) for stage, counts in batch.outcomes.items()},
            "seconds": dict(batch.seconds),
            "rewards": dict(batch.rewards),
            "tables": [(name, len(data)) for name, data in tables],
        }
    else:
        head, tables = asdict(event), []
    text = json.dumps({"kind": _KIND[type(event)], **head}, allow_nan=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *(data for _, data in tables)])


def decode(data: pa.Buffer) -> Event:
    """The event of these bytes, which were checked before. Raises KeyError for a kind of a newer format."""
    begins = 8 + int.from_bytes(data[:8].to_pybytes(), "little")
    head = json.loads(data[8:begins].to_pybytes())
    match head.pop("kind"):
        case "start":
            base = head.pop("base")
            return Start(**head, base=Base(**base) if base else None)
        case "micro_batch":
            first_row, source = head.pop("first_row"), head.pop("source")
            rewards = {name: (total, count) for name, (total, count) in head.pop("rewards").items()}
            (_, rows), *facts = _tables(data, begins, head.pop("tables"))
            return NewRows(first_row, MicroBatch(rows=rows, facts=dict(facts), rewards=rewards, **head), source)
        case "serve":
            return Serve(tuple(head["rows"]))
        case "sync":
            return Sync(**head | {"stale": tuple(head["stale"])})
        case "drop":
            return Drop(**head | {"stale": tuple(head["stale"])})
        case "reset":
            return Reset(**head)
        case "end":
            return End(**head)
        case other:
            raise KeyError(other)


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _tables(data: pa.Buffer, begins: int, lengths: list[tuple[str, int]]) -> list[tuple[str, pa.Table]]:
    tables: list[tuple[str, pa.Table]] = []
    for name, length in lengths:
        tables.append((name, pa.ipc.open_stream(data[begins : begins + length]).read_all()))
        begins += length
    return tables
