"""Fact tables in Lance, with the care Lance leaves to its user.

Lance does not fsync on local disks, keeps no checksums of its data files, and cannot open a table whose newest manifest
is torn. So every commit here is: write the data files, fsync them, note their checksums and row ids, commit, fsync the
manifest, and only then acknowledge. At open, manifests that cannot be read (they were never acknowledged) are set
aside. Small files are merged in two tiers, so that a commit costs the same at the 5,000th as at the first.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import lance
import numpy as np
import polars as pl
import pyarrow as pa
from lance.fragment import FragmentMetadata, write_fragments
from lance.optimize import Compaction

from prefkit.errors import DamageError
from prefkit.hashing import row_hashes
from prefkit.identity import id_words
from prefkit.records import FACT_TABLES, FactTable
from prefkit.store.batch_ids import new_batch_id
from prefkit.store.data_files import DataFiles
from prefkit.store.facts import Value, Where
from prefkit.store.files import disk_trouble, fsync_file, fsync_folder, turn
from prefkit.store.id_index import IdIndex

FORMAT = "2.2"
TIERS = (4_096, 131_072)
"""Files with fewer rows than a tier are merged once there are `PILE` of them below it."""
PILE = 64
FEW = 500
"""So many ids are looked up by a filter; more are gathered in one pass."""
STAMPS = ("batch_id", "row_hash")


class LanceFacts:
    """The fact tables of one workspace, in `folder/<table>.lance`; unreadable manifests go to `quarantine`."""

    def __init__(self, folder: Path, quarantine: Path) -> None:
        self._folder = folder
        self._quarantine = quarantine
        self._open: dict[str, lance.LanceDataset] = {}
        self._appends: dict[str, int] = {}

    def append(self, table: FactTable, rows: pa.Table) -> bytes:
        """See FactStore."""
        batch_id = new_batch_id()
        stamped = _stamped(table, rows, batch_id)
        with disk_trouble(self.path(table.name)):
            dataset = self._dataset(table.name) or self._created(table)
            fragments = write_fragments(stamped, dataset, mode="append", max_rows_per_file=1 << 20)
            self.files(table.name).record(fragments, stamped["id"])
            transaction = lance.Transaction(
                dataset.version,
                lance.LanceOperation.Append(fragments),
                transaction_properties={"batch_id": batch_id.hex()},
            )
            self._committed(table.name, dataset.version, lance.LanceDataset.commit(dataset, transaction))
        self._appends[table.name] = self._appends.get(table.name, 0) + 1
        if self._appends[table.name] % PILE == 0:
            self._merge_piles(table.name)
        return batch_id

    def read(
        self, table: FactTable, columns: Sequence[str], where: Where | None = None, at: int | None = None
    ) -> pl.DataFrame:
        """See FactStore."""
        return pl.concat(_frame(batch) for batch in self.batches(table, columns, where, at))

    def batches(
        self, table: FactTable, columns: Sequence[str], where: Where | None = None, at: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        """See FactStore."""
        names = list(columns)
        yield pa.RecordBatch.from_pylist([], pa.schema([table.schema.field(name) for name in names]))
        dataset = self._as_of(table.name, at)
        if dataset is None:
            return
        if where and not _is_light(table, columns, where):
            filtered = _sql(where)
            yield from dataset.to_batches(columns=names, filter=filtered, batch_size=1 << 16, scan_in_order=False)
            return
        # Lance takes three times as long to filter light columns as polars to filter them once they are read.
        everything = [*columns, *(c for c in where or () if c not in columns)]
        for batch in dataset.to_batches(columns=everything, batch_size=1 << 20, scan_in_order=False):
            yield _matching(batch, where or {}).select(names)

    def gather(self, table: FactTable, columns: Sequence[str], ids: pl.Series, at: int) -> pl.DataFrame:
        """See FactStore. Reads the table once, a batch at a time, so memory is that of the rows asked for."""
        if len(ids) <= FEW:
            return self.read(table, columns, {"id": ids.to_list()}, at)
        dataset = self._as_of(table.name, at)
        parts = [table.schema.empty_table().select(list(columns))]
        if dataset:
            index = IdIndex(id_words(ids.to_arrow()))
            everything = ["id", *(c for c in columns if c != "id")]
            for batch in dataset.to_batches(columns=everything, batch_size=1 << 16, scan_in_order=False):
                rows = np.flatnonzero(index.places(id_words(batch["id"])) >= 0)
                parts.append(pa.table(batch.take(pa.array(rows))).select(list(columns)))
        return _frame(pa.concat_tables(parts))

    def count(self, table: FactTable, at: int) -> int:
        """See FactStore."""
        dataset = self._as_of(table.name, at)
        return dataset.count_rows() if dataset else 0

    def heads(self) -> dict[str, int]:
        """See FactStore."""
        datasets = {name: self._dataset(name) for name in FACT_TABLES}
        return {name: dataset.version if dataset else 0 for name, dataset in datasets.items()}

    def compact(self, table: FactTable) -> None:
        """See FactStore."""
        dataset = self._dataset(table.name)
        if dataset and sum(f.metadata.physical_rows < TIERS[-1] for f in dataset.get_fragments()) > 1:
            self._merge(table.name, TIERS[-1])

    def pin(self, label: str, versions: Mapping[str, int]) -> None:
        """See FactStore. Labels are made of letters, digits, `.`, `-` and `_`."""
        for name, version in versions.items():
            dataset = self._dataset(name)
            if dataset and version:
                with suppress(ValueError):  # left over from a build that was killed before its version was published
                    dataset.tags.delete(label)
                dataset.tags.create(label, version)
                tags = self.path(name) / "_refs" / "tags"
                fsync_file(tags / f"{label}.json")
                fsync_folder(tags)

    def unpin(self, label: str) -> None:
        """See FactStore."""
        for name in FACT_TABLES:
            dataset = self._dataset(name)
            if dataset and label in dataset.tags.list():
                dataset.tags.delete(label)

    def pinned(self) -> dict[str, dict[str, int]]:
        """Label to table to pinned version."""
        labels: dict[str, dict[str, int]] = {}
        for name in FACT_TABLES:
            dataset = self._dataset(name)
            for label, tag in dataset.tags.list().items() if dataset else ():
                labels.setdefault(label, {})[name] = tag["version"]
        return labels

    def drop_unpinned_versions(self) -> int:
        """Removes table versions that are neither current nor pinned, and returns the bytes freed.

        Needs the workspace alone.
        """
        freed = 0
        for name in FACT_TABLES:
            dataset = self._dataset(name)
            if dataset:
                freed += dataset.cleanup_old_versions(
                    older_than=timedelta(0), delete_unverified=True, error_if_tagged_old_versions=False
                ).bytes_removed
                self.files(name).forget_missing()
        return freed

    def drop_rows(
        self, table: FactTable, column: str, keep: Collection[int], spared: Mapping[str, str] | None = None
    ) -> int:
        """Removes from the current version the rows whose column holds no value to keep, unless they cost money.

        Rows stay as well of which a column begins as `spared` says. Pinned versions still read what goes. Returns how
        many went. Needs the workspace alone.
        """
        dataset = self._dataset(table.name)
        if dataset is None:
            return 0
        unnamed = f"NOT ({_one_of(column, sorted(keep))})"
        paid = " AND (cost IS NULL OR cost = 0)" if "cost" in table.schema.names else ""
        others = "".join(f" AND NOT starts_with({name}, {_literal(text)})" for name, text in (spared or {}).items())
        before = dataset.count_rows()
        version = dataset.version
        dataset.delete(unnamed + paid + others)
        self._committed(table.name, version, dataset)
        left = dataset.count_rows()
        self._merge(table.name, TIERS[-1])  # rewrites files with deleted rows: a file's rows are those on record again
        return before - left

    def path(self, name: str) -> Path:
        """Where a table lies."""
        return self._folder / f"{name}.lance"

    def files(self, name: str) -> DataFiles:
        """The checksums and row ids of a table's data files."""
        return DataFiles(self.path(name) / "data", self._folder / f"{name}.sums")

    def files_read(self, name: str) -> set[str]:
        """The data files that the current and the pinned versions of a table read."""
        dataset = self._dataset(name)
        if dataset is None:
            return set()
        return {
            f for v in self._live_versions(name, dataset) for f in _data_files(lance.dataset(dataset.uri, version=v))
        }

    def fragment_rows(self, name: str, file: str) -> pa.Table:
        """All columns of the rows in one data file that is read. Raises whatever Lance raises on damaged bytes."""
        dataset = self._dataset(name)
        versions = sorted(self._live_versions(name, dataset), reverse=True) if dataset else []
        fragments = (f for v in versions for f in lance.dataset(str(self.path(name)), version=v).get_fragments())
        return next(f for f in fragments if f.metadata.files[0].path == file).to_table()

    def _live_versions(self, name: str, dataset: lance.LanceDataset) -> set[int]:
        return {dataset.version, *(tags[name] for tags in self.pinned().values() if name in tags)}

    def _as_of(self, name: str, at: int | None) -> lance.LanceDataset | None:
        dataset = self._dataset(name) if at is None or at > 0 else None
        return dataset if dataset is None or at in (None, dataset.version) else lance.dataset(dataset.uri, version=at)

    def _dataset(self, name: str) -> lance.LanceDataset | None:
        known = self._open.get(name)
        if known is None:
            if not self._manifests(name):
                return None
            known = self._open[name] = self._opened(name)
        elif known.version != known.latest_version:
            known = self._open[name] = lance.dataset(known.uri)
        return known

    def _opened(self, name: str) -> lance.LanceDataset:
        """The table at its newest readable version; unreadable newer manifests are moved to quarantine."""
        manifests = self._manifests(name)
        for index, manifest in enumerate(manifests):
            try:
                dataset = lance.dataset(str(self.path(name)))
            except (ValueError, OSError) as error:
                if index == len(manifests) - 1:
                    raise DamageError(
                        f"table {name} in {self.path(name)} has no readable manifest ({len(manifests)} tried), "
                        "expected at least one: "
                        f"restore the folder from a copy; the unreadable ones are in {self._quarantine}"
                    ) from error
                self._set_aside(name, manifest)
            else:
                return dataset
        raise DamageError(f"table {name} in {self.path(name)} has no manifest: restore the folder from a copy")

    def _manifests(self, name: str) -> list[Path]:
        """A table's manifests, newest first: their names count down. A table exists from its first manifest on."""
        return sorted((self.path(name) / "_versions").glob("*.manifest"))

    def _set_aside(self, name: str, manifest: Path) -> None:
        self._quarantine.mkdir(parents=True, exist_ok=True)
        manifest.rename(self._quarantine / f"{name}-{manifest.name}")
        with suppress(FileNotFoundError):
            (manifest.parent / "latest_version_hint.json").unlink()
        fsync_folder(manifest.parent)

    def _created(self, table: FactTable) -> lance.LanceDataset:
        path = self.path(table.name)
        # One at a time: of two that create at once, Lance lets the second overwrite what the first has committed since.
        with turn(self._folder / "create.lock"):
            if self._manifests(table.name):
                return self._opened(table.name)
            dataset = lance.write_dataset(
                table.schema.empty_table(), str(path), mode="create", data_storage_version=FORMAT
            )
            self._committed(table.name, 0, dataset)
            (path / "data").mkdir(exist_ok=True)
            for folder in (path / "data", path, self._folder):
                fsync_folder(folder)
        return dataset

    def _committed(self, name: str, before: int, dataset: lance.LanceDataset) -> None:
        manifests = self.path(name) / "_versions"
        for version in range(before + 1, dataset.version + 1):
            with suppress(FileNotFoundError):
                fsync_file(manifests / f"{2**64 - 1 - version:020d}.manifest")
        fsync_folder(manifests)
        self._open[name] = dataset

    def _merge_piles(self, name: str) -> None:
        for tier in TIERS:
            dataset = self._dataset(name)
            if dataset and sum(f.metadata.physical_rows < tier for f in dataset.get_fragments()) >= PILE:
                self._merge(name, tier)

    def _merge(self, name: str, rows: int) -> None:
        dataset = self._dataset(name)
        if dataset is None:
            return
        plan = Compaction.plan(dataset, {"target_rows_per_fragment": rows, "materialize_deletions_threshold": 0.0})
        rewrites = [task.execute(dataset) for task in plan.tasks]
        if not rewrites:
            return
        for task, rewrite in zip(plan.tasks, rewrites, strict=True):
            self.files(name).record(rewrite.new_fragments, _ids_in_order(dataset, task.fragments))
        try:
            Compaction.commit(dataset, rewrites)
        except (OSError, RuntimeError) as error:
            if "conflict" not in str(error).lower():
                raise
            return  # another writer merged first; its result is as good
        self._committed(name, dataset.version, lance.dataset(dataset.uri))


def _frame(rows: pa.Table | pa.RecordBatch) -> pl.DataFrame:
    frame = pl.from_arrow(rows)
    return frame if isinstance(frame, pl.DataFrame) else frame.to_frame()


def _matching(batch: pa.RecordBatch, where: Where) -> pa.RecordBatch:
    if not where:
        return batch
    tests = [pl.col(c).is_in([v] if isinstance(v, str | int | bytes) else list(v)) for c, v in where.items()]
    matches = _frame(batch.select(list(where))).select(pl.all_horizontal(tests).fill_null(value=False)).to_series()
    return batch if matches.all() else batch.filter(matches.to_arrow())


def _stamped(table: FactTable, rows: pa.Table, batch_id: bytes) -> pa.Table:
    names = [n for n in table.schema.names if n not in STAMPS]
    if set(rows.column_names) != set(names):
        odd = sorted(set(rows.column_names) ^ set(names))
        raise TypeError(f"rows for {table.name} differ in the columns {odd}, expected exactly {names}")
    rows = rows.select(names).cast(pa.schema([table.schema.field(n) for n in names])).combine_chunks()
    rows = rows.append_column("batch_id", pa.array([batch_id] * rows.num_rows, table.schema.field("batch_id").type))
    return rows.append_column("row_hash", pa.array(row_hashes(rows, names)))


def _ids_in_order(dataset: lance.LanceDataset, fragments: Sequence[FragmentMetadata]) -> pa.ChunkedArray:
    by_id = {f.fragment_id: f for f in dataset.get_fragments()}
    parts = [by_id[f.id].to_table(columns=["id"])["id"] for f in fragments]
    return pa.chunked_array([chunk for part in parts for chunk in part.chunks], parts[0].type)


def _data_files(dataset: lance.LanceDataset) -> set[str]:
    return {f.metadata.files[0].path for f in dataset.get_fragments()}


def _is_light(table: FactTable, columns: Sequence[str], where: Where) -> bool:
    """Whether no lists are asked for and no ids are looked up: then filtering costs more than reading."""
    listed = any(pa.types.is_nested(table.schema.field(c).type) for c in columns)
    looked_up = any(pa.types.is_fixed_size_binary(table.schema.field(c).type) for c in where)
    return not listed and not looked_up


def _sql(where: Where | None) -> str | None:
    if not where:
        return None
    return " AND ".join(
        f"{column} = {_literal(value)}" if isinstance(value, str | int | bytes) else _one_of(column, value)
        for column, value in where.items()
    )


def _one_of(column: str, values: Sequence[Value]) -> str:
    return f"{column} IN ({', '.join(map(_literal, values))})" if values else "false"


def _literal(value: Value) -> str:
    match value:
        case bytes():
            return f"X'{value.hex()}'"
        case str():
            return "'" + value.replace("'", "''") + "'"
        case int():
            return str(value)
    raise TypeError(f"{type(value).__name__} is no value a fact can be looked up by")
