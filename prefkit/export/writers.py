"""Where an export goes: a new folder, complete or not there at all.

Everything is written beside the target and renamed onto it, so an export that breaks off (a full disk, a kill) leaves
no half-written folder under the target's name.
"""

import shutil
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from uuid import uuid4

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from prefkit.errors import MissingExtraError, RecipeError, WorkspaceError, suggestion

if TYPE_CHECKING:
    import datasets

Writer: TypeAlias = Callable[[Mapping[str, pl.DataFrame], Path], None]

_JSONL_SLICE = 10_000


def write_splits(splits: Mapping[str, pl.DataFrame], target: Path, container: str) -> None:
    """Writes formatted splits to a new folder as `parquet`, `jsonl` or `datasets` (for `datasets.load_from_disk`)."""
    if container not in WRITERS:
        near = suggestion(container, list(WRITERS))
        raise RecipeError(f"container {container!r} does not exist, expected one of {', '.join(WRITERS)}{near}")
    with new_folder(target) as folder:
        WRITERS[container](splits, folder)


@contextmanager
def new_folder(target: Path) -> Generator[Path]:
    """A folder to write into that becomes `target` when the block ends without an error.

    Raises WorkspaceError when the target exists and is not an empty folder, or cannot be written.
    """
    final = target.resolve()
    staging = final.parent / f".{final.name}.{uuid4().hex}.tmp"
    try:
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise WorkspaceError(f"{target} exists, expected a new or empty folder: choose another or remove it")
        staging.mkdir(parents=True)
        yield staging
        staging.rename(final)
    except OSError as error:
        raise WorkspaceError(f"{target} cannot be written: {error.strerror or error}; nothing was exported") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_parquet(splits: Mapping[str, pl.DataFrame], folder: Path) -> None:
    """One `<split>.parquet` per split."""
    for split, frame in splits.items():
        write_parquet_file(frame, folder / f"{split}.parquet")


def write_parquet_file(frame: pl.DataFrame, path: Path) -> None:
    """A Parquet file as the Hub wants it: a page index, and pages cut by content so that equal rows are stored once."""
    pq.write_table(
        arrow_table(frame), path, compression="zstd", write_page_index=True, use_content_defined_chunking=True
    )


def write_jsonl(splits: Mapping[str, pl.DataFrame], folder: Path) -> None:
    """One `<split>.jsonl` per split."""
    for split, frame in splits.items():
        with (folder / f"{split}.jsonl").open("wb") as file:
            for part in frame.iter_slices(_JSONL_SLICE):
                file.write(part.write_ndjson().encode())


def write_dataset_dict(splits: Mapping[str, pl.DataFrame], folder: Path) -> None:
    """A folder for `datasets.load_from_disk`."""
    dataset_dict(splits).save_to_disk(str(folder))


def dataset_dict(splits: Mapping[str, pl.DataFrame]) -> "datasets.DatasetDict":
    """The splits as a `datasets.DatasetDict`. Raises MissingExtraError without the datasets package."""
    try:
        from datasets import Dataset, DatasetDict
        from datasets.table import InMemoryTable
    except ImportError as error:
        raise MissingExtraError(
            "a datasets.DatasetDict needs the package 'datasets', which is not installed: pip install datasets"
        ) from error
    return DatasetDict({split: Dataset(InMemoryTable(arrow_table(frame))) for split, frame in splits.items()})


WRITERS: Mapping[str, Writer] = {"parquet": write_parquet, "jsonl": write_jsonl, "datasets": write_dataset_dict}


def arrow_table(frame: pl.DataFrame) -> pa.Table:
    """The frame as Arrow with 32-bit offsets, the types that other readers call string and list."""
    table = frame.to_arrow()
    return table.cast(pa.schema([(field.name, _short_offsets(field.type)) for field in table.schema]))


def _short_offsets(dtype: pa.DataType) -> pa.DataType:
    if pa.types.is_large_string(dtype):
        return pa.string()
    if pa.types.is_large_list(dtype):
        return pa.list_(_short_offsets(dtype.value_type))
    if pa.types.is_struct(dtype):
        return pa.struct([(field.name, _short_offsets(field.type)) for field in dtype])
    return dtype
